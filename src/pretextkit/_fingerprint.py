"""Short descriptions of tensors, images and modules, by which two runs are compared."""

from __future__ import annotations

import hashlib
import numbers
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

__all__ = [
    "describe_images",
    "differences",
    "digest",
    "frozen_weights",
    "function_name",
    "module_options",
    "plain_attributes",
]

_SHOWN_DIFFERENCES = 8


def digest(tensors: Iterable[Tensor]) -> str:
    """Hash the values, types and shapes of tensors to 16 characters.

    Example:
        >>> digest([torch.zeros(2)]) == digest([torch.zeros(2)]) != digest([torch.ones(2)])
        True
    """
    content = hashlib.blake2b(digest_size=8)
    for tensor in tensors:
        content.update(str(tensor.dtype).encode() + str(tuple(tensor.shape)).encode())
        content.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return content.hexdigest()


def describe_images(images: Tensor) -> str:
    """Describe images by shape, type and a hash of their pixels.

    Example:
        >>> describe_images(torch.zeros(2, 3, 4, 4))
        '2x3x4x4 float32 9ddc19647f8d918f'
    """
    content = images.cpu().contiguous().view(torch.uint8).numpy().tobytes()
    shape = "x".join(map(str, images.shape))
    return f"{shape} {str(images.dtype).removeprefix('torch.')} {hashlib.blake2b(content, digest_size=8).hexdigest()}"


def plain_attributes(module: nn.Module, prefix: str) -> dict[str, str]:
    """List the public attributes of a module that are numbers, strings, ``None``, or tuples and dataclasses of them.

    Example:
        >>> plain_attributes(nn.Dropout(0.5), "layer")
        {'layer.p': '0.5', 'layer.inplace': 'False'}
    """
    own = {name: value for name, value in vars(module).items() if name != "training" and not name.startswith("_")}
    return {f"{prefix}.{name}": repr(value) for name, value in own.items() if _is_plain(value)}


def module_options(module: nn.Module, prefix: str) -> dict[str, str]:
    """List the options of a module and of its parts: plain attributes, mappings and lists of them, functions by name.

    Layers of torch are left out, and so are the backbone and copies of it: the shapes of their weights describe them.

    Example:
        >>> from pretextkit.models import SmallCNN
        >>> from pretextkit.tasks import BYOL
        >>> options = module_options(BYOL(SmallCNN(), momentum=0.9), "task")
        >>> options["task.target.momentum"], options["task.augmentation"][:14]
        ('0.9', 'CropAndRecolor')
    """
    found = {}
    for path, part in module.named_modules():
        if type(part).__module__.startswith("torch.") or {"backbone", "modules_copied"} & set(path.split(".")):
            continue
        place = f"{prefix}.{path}" if path else prefix
        for name, value in vars(part).items():
            if name == "training" or name.startswith("_") or isinstance(value, Tensor):
                continue
            if all(map(_is_plain, _leaves(value))):
                found[f"{place}.{name}"] = repr(value)
            elif callable(value) and not hasattr(type(part), name):  # not a method that was replaced
                found[f"{place}.{name}"] = str(function_name(value))
    return found


def frozen_weights(module: nn.Module) -> str:
    """Describe which weights of a module do not train, by their number and a hash of their names.

    Example:
        >>> frozen_weights(nn.Linear(2, 2)), frozen_weights(nn.Linear(2, 2).requires_grad_(False))
        ('none', '2 of 2, f9ce8283')
    """
    names = [name for name, weight in module.named_parameters() if not weight.requires_grad]
    if not names:
        return "none"
    mark = hashlib.blake2b(" ".join(names).encode(), digest_size=4).hexdigest()
    return f"{len(names)} of {sum(1 for _ in module.parameters())}, {mark}"


def function_name(function: Any) -> str | None:
    """Name a function, without its address in memory; a string names itself, and ``None`` is no function.

    Example:
        >>> function_name(nn.functional.relu), function_name(nn.MSELoss()), function_name("ssim"), function_name(None)
        ('relu', 'MSELoss()', 'ssim', None)
    """
    if function is None or isinstance(function, str):
        return function
    name = getattr(function, "__qualname__", None) or re.sub(r" at 0x[0-9a-f]+", "", repr(function))
    return str(name).rpartition("<locals>.")[2]


def differences(saved: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """List the differences between two mappings; an empty string if there are none.

    Example:
        >>> differences({"seed": 0, "epochs": 1}, {"seed": 1, "epochs": 1})
        'seed: 0 there, 1 here'
    """
    found = [
        f"{key}: {saved.get(key)!r} there, {here.get(key)!r} here"
        for key in {**saved, **here}
        if saved.get(key) != here.get(key)
    ]
    more = len(found) - _SHOWN_DIFFERENCES
    return "; ".join(found[:_SHOWN_DIFFERENCES]) + (f"; and {more} more" if more > 0 else "")


def _leaves(value: Any) -> Iterator[Any]:
    """List the values in nested mappings and lists; of anything else, the value itself."""
    if not isinstance(value, Mapping | list):
        yield value
        return
    for each in value.values() if isinstance(value, Mapping) else value:
        yield from _leaves(each)


def _is_plain(value: Any) -> bool:
    """Whether ``repr`` shows the complete value, and no address in memory."""
    if isinstance(value, tuple):
        return all(map(_is_plain, value))
    if is_dataclass(value) and not isinstance(value, type):
        return all(_is_plain(getattr(value, each.name)) for each in fields(value))
    return value is None or isinstance(value, numbers.Number | str)
