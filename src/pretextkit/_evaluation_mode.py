"""Borrowing modules without leaving a trace on them."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import CellType, FunctionType, MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

__all__ = ["evaluation_mode", "module_device"]

_ONE_AT_A_TIME = threading.RLock()


@contextmanager
def evaluation_mode(model: Any) -> Iterator[None]:
    """Put a module into evaluation mode without gradient, and put mode and buffers back afterwards, bit by bit.

    So it is with every module that a function calls, as ``lambda x: decoder(encoder(x))`` does, and with the global
    random generators, from which a data loader or the model may draw meanwhile.

    One thread at a time does so, and others wait: modes, hooks and random generators belong to the whole process, and
    of two threads with one backbone, the first to end would put it back into training mode under the other.

    BatchNorm's running statistics move under ``no_grad`` and with frozen parameters; evaluation mode holds them, and
    what other layers keep in buffers is restored.

    Example:
        >>> norm = torch.nn.BatchNorm1d(2)
        >>> with evaluation_mode(lambda x: norm(x) + 1):
        ...     _ = norm(torch.rand(4, 2))
        >>> norm.training, norm.running_mean
        (True, tensor([0., 0.]))
    """
    with _ONE_AT_A_TIME, _borrowed(model):
        yield


@contextmanager
def _borrowed(model: Any) -> Iterator[None]:
    modes: dict[nn.Module, bool] = {}
    buffers: list[tuple[nn.Module, str, Tensor, Tensor]] = []

    def borrow(root: nn.Module, *_: Any) -> None:
        if root in modes:
            return
        for module in root.modules():
            if module not in modes:
                buffers.extend((module, name, b, b.clone()) for name, b in module._buffers.items() if b is not None)
                modes[module] = module.training
                module.training = False

    device = module_device(model)
    hook = None if isinstance(model, nn.Module) else register_module_forward_pre_hook(borrow)
    try:
        for module in _modules_behind(model):
            borrow(module)
        with torch.no_grad(), torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield
    finally:
        if hook is not None:
            hook.remove()
        for module, mode in modes.items():
            module.training = mode
        with torch.no_grad():
            for module, name, buffer, value in buffers:
                module._buffers[name] = buffer.copy_(value)


def module_device(model: Any) -> torch.device:
    """Tell where the weights of a module, or of those behind a function, are; without any, it is the CPU.

    Example:
        >>> module_device(torch.nn.Linear(2, 2, device="meta").forward)
        device(type='meta')
    """
    for module in _modules_behind(model):
        for tensor in (*module.parameters(), *module.buffers()):
            return tensor.device
    return torch.device("cpu")


def _modules_behind(function: Any) -> Iterator[nn.Module]:
    """Find modules in what a callable holds: its owner, arguments set in advance, closure, and the globals it names.

    Some stay hidden, as in a list of modules: those are met when they are called.
    """
    seen: set[int] = set()
    ahead = [function]
    while ahead:
        one = ahead.pop(0)
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, nn.Module):
            yield one
        elif isinstance(one, functools.partial):
            ahead += [one.func, *one.args, *one.keywords.values()]
        elif isinstance(one, MethodType):
            ahead += [one.__self__, one.__func__, *getattr(one.__self__, "__dict__", {}).values()]
        elif isinstance(one, FunctionType):
            ahead += [cell.cell_contents for cell in one.__closure__ or () if cell != CellType()]  # an empty one raises
            ahead += [one.__globals__[name] for name in one.__code__.co_names if name in one.__globals__]
            ahead += [*(one.__defaults__ or ()), *(one.__kwdefaults__ or {}).values()]
        elif callable(one) and isinstance(type(one).__call__, FunctionType):
            ahead += [type(one).__call__, *getattr(one, "__dict__", {}).values()]
