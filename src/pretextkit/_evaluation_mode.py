"""Run a model in evaluation mode and restore its state exactly."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from pretextkit._modules import explain_complex_weights, module_device, modules_behind, refuse_traced_training

__all__ = ["evaluation_mode"]

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

    Raises:
        OptionError: A module was traced in training mode, and would stay in it.
        DataError: The model has complex weights, and fails on real images.

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
    modes: dict[nn.Module, bool | None] = {}
    buffers: list[tuple[nn.Module, str, Tensor, Tensor]] = []

    def set_eval(root: nn.Module, *_: Any) -> None:
        if root in modes:
            return
        refuse_traced_training(root)
        for module in root.modules():
            if module not in modes:
                buffers.extend((module, name, b, b.clone()) for name, b in module._buffers.items() if b is not None)
                modes[module] = getattr(module, "training", None)
                if modes[module] is not None:  # a module that torch.jit froze has no mode
                    module.training = False

    device = module_device(model)
    hook = None if isinstance(model, nn.Module) else register_module_forward_pre_hook(set_eval)
    try:
        for module in modules_behind(model):
            set_eval(module)
        with torch.no_grad(), torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield
    except RuntimeError as error:
        explain_complex_weights(model, error)
        raise
    finally:
        if hook is not None:
            hook.remove()
        for module, mode in modes.items():
            if mode is not None:
                module.training = mode
        with torch.no_grad():
            for module, name, buffer, value in buffers:
                module._buffers[name] = buffer.copy_(value)
