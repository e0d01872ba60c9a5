"""What two runs must share for one to go on where the other stopped."""

from __future__ import annotations

import hashlib
import numbers
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from pretextkit._seeding import derived_seed
from pretextkit.data._sources import ImageSource, LoaderImages
from pretextkit.data._stream import StreamImages
from pretextkit.distributed._sharding import class_name
from pretextkit.training._settings import Plan, Settings

__all__ = ["differences", "digest", "fingerprint", "plain_attributes", "run_identity"]

COMPARED_IMAGES = 8
SHOWN = 8


def run_identity(
    module: nn.Module, source: ImageSource, settings: Settings, plan: Plan, precision: str
) -> dict[str, Any]:
    """Describe a run in numbers, strings and tuples; the device and whether it is compiled may change on the way.

    Example:
        >>> from pretextkit.data._sources import TensorImages
        >>> settings, source = Settings(epochs=1), TensorImages(torch.zeros(9, 1, 2, 2))
        >>> identity = run_identity(nn.Linear(2, 3), source, settings, Plan(9, 0.1, 1, 1, 0), "fp32")
        >>> identity["images"], identity["task.in_features"], identity["weight bias"]
        (9, '2', (3,))
    """
    free = ("device", "compile") if settings.accumulate > 1 else ("device", "compile", "accumulate")
    options = {name: value for name, value in asdict(settings).items() if name not in free}
    return {
        "task": class_name(module),
        **plain_attributes(module, "task"),
        "images": len(source),
        "first images": fingerprint(source),
        **options,
        **asdict(plan),
        "precision": precision,
        **{f"weight {name}": tuple(value.shape) for name, value in module.state_dict().items()},
    }


def plain_attributes(module: nn.Module, prefix: str) -> dict[str, str]:
    """Show the options that a module keeps in its attributes.

    Example:
        >>> plain_attributes(nn.Dropout(0.5), "layer")
        {'layer.p': '0.5', 'layer.inplace': 'False'}
    """
    own = {name: value for name, value in vars(module).items() if name != "training" and not name.startswith("_")}
    return {f"{prefix}.{name}": repr(value) for name, value in own.items() if _is_plain(value)}


def differences(saved: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """Say in what two identities differ, nothing if they do not.

    Example:
        >>> differences({"seed": 0, "epochs": 1}, {"seed": 1, "epochs": 1})
        'seed: 0 there, 1 here'
    """
    found = [
        f"{key}: {saved.get(key)!r} there, {here.get(key)!r} here"
        for key in {**saved, **here}
        if saved.get(key) != here.get(key)
    ]
    more = len(found) - SHOWN
    return "; ".join(found[:SHOWN]) + (f"; and {more} more" if more > 0 else "")


def digest(tensors: Iterable[Tensor]) -> str:
    """Give 16 characters that differ where any value of the tensors does.

    Example:
        >>> digest([torch.zeros(2)]) == digest([torch.zeros(2)]) != digest([torch.ones(2)])
        True
    """
    content = hashlib.blake2b(digest_size=8)
    for tensor in tensors:
        content.update(str(tensor.dtype).encode() + str(tuple(tensor.shape)).encode())
        content.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return content.hexdigest()


def _is_plain(value: Any) -> bool:
    """Tell whether ``repr`` shows all of a value, and nothing of this process."""
    if isinstance(value, tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, numbers.Number | str)


def fingerprint(source: ImageSource) -> str | None:
    """Describe the first images; None where a loader or stream decides which those are, or no two readings agree."""
    if isinstance(source, LoaderImages | StreamImages):
        return None
    one, other = _read_first(source), _read_first(source)
    return one if one == other else None


def _read_first(source: ImageSource) -> str:
    with torch.random.fork_rng(devices=[]):  # random transforms draw from the global generator
        torch.default_generator.manual_seed(derived_seed(0, "identity"))
        images = next(iter(source.batches([torch.arange(min(COMPARED_IMAGES, len(source)))]))).images
    content = images.cpu().contiguous().view(torch.uint8).numpy().tobytes()
    shape = "x".join(map(str, images.shape))
    return f"{shape} {str(images.dtype).removeprefix('torch.')} {hashlib.blake2b(content, digest_size=8).hexdigest()}"
