"""Modules inside a callable, and the device and dtype of their weights."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from types import CellType, FunctionType, MethodType
from typing import Any

import torch
from torch import Tensor, nn

__all__ = [
    "as_input",
    "module_device",
    "module_dtype",
    "modules_behind",
    "tensors_of",
]


def modules_behind(function: Any) -> Iterator[nn.Module]:
    """Find the modules in a callable's owner, bound arguments, closure and globals.

    Other modules, such as those in a list, are found when they are called.

    Example:
        >>> network = nn.Linear(2, 2)
        >>> [module is network for module in modules_behind(lambda images: network(images))]
        [True]
    """
    seen: set[int] = set()
    queue = [function]
    while queue:
        one = queue.pop(0)
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, nn.Module):
            yield one
        elif isinstance(one, functools.partial):
            queue += [one.func, *one.args, *one.keywords.values()]
        elif isinstance(one, MethodType):
            queue += [one.__self__, one.__func__, *getattr(one.__self__, "__dict__", {}).values()]
        elif isinstance(one, FunctionType):
            queue += [cell.cell_contents for cell in one.__closure__ or () if cell != CellType()]  # empty: raises
            queue += [one.__globals__[name] for name in one.__code__.co_names if name in one.__globals__]
            queue += [*(one.__defaults__ or ()), *(one.__kwdefaults__ or {}).values()]
        elif callable(one) and isinstance(type(one).__call__, FunctionType):
            queue += [type(one).__call__, *getattr(one, "__dict__", {}).values()]


def module_device(model: Any) -> torch.device:
    """Return the device of a model's weights, also of modules inside a function; the CPU if there are no weights.

    Example:
        >>> module_device(torch.nn.Linear(2, 2, device="meta").forward)
        device(type='meta')
    """
    for tensor in tensors_of(model):
        return tensor.device
    return torch.device("cpu")


def module_dtype(model: Any) -> torch.dtype:
    """Return the dtype in which a model takes its input: that of its weights, also of modules inside a function.

    Models without floating-point weights, and models whose weights have several dtypes, take float32: the latter
    convert their input themselves.

    Example:
        >>> module_dtype(nn.Linear(2, 2).double()), module_dtype(nn.Flatten())
        (torch.float64, torch.float32)
    """
    weights = {w.dtype for m in modules_behind(model) for w in m.parameters() if w.is_floating_point()}
    return weights.pop() if len(weights) == 1 else torch.float32


def as_input(values: Tensor, module: nn.Module) -> Tensor:
    """Convert floats to the dtype of a module's weights, except under autocast, which converts by itself.

    Example:
        >>> as_input(torch.ones(1), nn.Linear(1, 1).double()).dtype, as_input(torch.ones(1), nn.Linear(1, 1)).dtype
        (torch.float64, torch.float32)
    """
    first = next((weight.dtype for weight in module.parameters() if weight.is_floating_point()), torch.float32)
    if not values.is_floating_point() or first == values.dtype or torch.is_autocast_enabled(values.device.type):
        return values
    return values.to(module_dtype(module))


def tensors_of(model: Any) -> Iterator[Tensor]:
    for module in modules_behind(model):
        yield from module.parameters()
        yield from module.buffers()
