"""Run a model in evaluation mode and restore its state exactly."""

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

_LOCK = threading.RLock()


@contextmanager
def evaluation_mode(model: Any) -> Iterator[None]:
    """Set a model to evaluation mode without gradient, and restore its modes and buffers bit by bit afterwards.

    The same holds for modules called inside a function, such as ``lambda x: decoder(encoder(x))``, and for the global
    random generators, from which a data loader or the model may draw in the meantime.

    A lock is needed, because modes, hooks and random generators belong to the process: of two threads with one
    backbone, the first to finish would switch it back to training mode. Other threads wait.

    BatchNorm updates its running statistics even under ``no_grad`` and with frozen parameters. Evaluation mode stops
    this, and buffers that other layers change are restored.

    Example:
        >>> norm = torch.nn.BatchNorm1d(2)
        >>> with evaluation_mode(lambda x: norm(x) + 1):
        ...     _ = norm(torch.rand(4, 2))
        >>> norm.training, norm.running_mean
        (True, tensor([0., 0.]))
    """
    with _LOCK, _evaluating(model):
        yield


@contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    modes: dict[nn.Module, bool] = {}
    buffers: list[tuple[nn.Module, str, Tensor, Tensor]] = []

    def set_eval(root: nn.Module, *_: Any) -> None:
        if root in modes:
            return
        for module in root.modules():
            if module not in modes:
                buffers.extend((module, name, b, b.clone()) for name, b in module._buffers.items() if b is not None)
                modes[module] = module.training
                module.training = False

    device = module_device(model)
    hook = None if isinstance(model, nn.Module) else register_module_forward_pre_hook(set_eval)
    try:
        for module in _modules_behind(model):
            set_eval(module)
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
    """Return the device of a model's weights, also of modules inside a function; the CPU if there are no weights.

    Example:
        >>> module_device(torch.nn.Linear(2, 2, device="meta").forward)
        device(type='meta')
    """
    for module in _modules_behind(model):
        for tensor in (*module.parameters(), *module.buffers()):
            return tensor.device
    return torch.device("cpu")


def _modules_behind(function: Any) -> Iterator[nn.Module]:
    """Find the modules in a callable's owner, bound arguments, closure and globals.

    Other modules, such as those in a list, are found when they are called.
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
