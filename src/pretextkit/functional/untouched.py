"""Borrowing a module without leaving a trace on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

__all__ = ["evaluating", "module_device"]


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Put a module into evaluation mode without gradient, and put mode and buffers back afterwards, bit by bit.

    So it is with the global random generators, from which a data loader or the model may draw meanwhile.

    BatchNorm's running statistics move under ``no_grad`` and with frozen parameters; evaluation mode holds them, and
    what other layers keep in buffers is restored. Other callables are left alone.

    Example:
        >>> norm = torch.nn.BatchNorm1d(2)
        >>> with evaluating(norm):
        ...     _ = norm(torch.rand(4, 2))
        >>> norm.training, norm.running_mean
        (True, tensor([0., 0.]))
    """
    modules = list(model.modules()) if isinstance(model, nn.Module) else []
    modes = [(module, module.training) for module in modules]
    buffers = [
        (module, name, buffer, buffer.clone())
        for module in modules
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    try:
        for module in modules:
            module.training = False
        device = module_device(model)
        with torch.no_grad(), torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield
    finally:
        for module, mode in modes:
            module.training = mode
        with torch.no_grad():
            for module, name, buffer, value in buffers:
                module._buffers[name] = buffer.copy_(value)


def module_device(model: Any) -> torch.device:
    """Tell where a module's weights are; other callables and modules without any are taken to be on the CPU.

    Example:
        >>> module_device(torch.nn.Linear(2, 2))
        device(type='cpu')
    """
    if isinstance(model, nn.Module):
        for tensor in (*model.parameters(), *model.buffers()):
            return tensor.device
    return torch.device("cpu")
