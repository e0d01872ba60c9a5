"""Networks inside wrappers, such as compiled and parallel ones, and copies of networks."""

from __future__ import annotations

import copy
import functools
from contextlib import AbstractContextManager, nullcontext
from types import FunctionType
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from pretextkit._modules._weights import modules_behind

__all__ = [
    "copied",
    "eager_execution",
    "is_compiled",
    "is_parallel_wrapper",
    "is_scripted",
    "unwrap",
]

_PARALLEL = (nn.DataParallel, DistributedDataParallel)


def unwrap(model: Any) -> Any:
    """Return the network inside wrappers that call it unchanged.

    Wrappers are the result of ``torch.compile``, ``DataParallel``, ``DistributedDataParallel`` and ``AveragedModel``,
    also one inside another. Anything else is returned as it is.

    Example:
        >>> network = nn.Linear(2, 2)
        >>> unwrap(nn.DataParallel(network)) is network, unwrap(network) is network
        (True, True)
    """
    while isinstance(model, nn.Module):
        if is_compiled(model):
            model = model._modules["_orig_mod"]
        elif isinstance(model, (*_PARALLEL, AveragedModel)):
            model = model.module
        else:
            break
    return model


def copied(module: nn.Module) -> nn.Module:
    """Copy the network of a module, so that training the module later leaves the copy as it is.

    What cannot be copied is returned itself: sharded weights, and modules with functions, such as hooks, that hold
    modules, because a copy would call those of the original.

    Example:
        >>> network = nn.Linear(2, 2)
        >>> copied(nn.DataParallel(network)).weight is network.weight
        False
    """
    if any(map(_has_functions_of_modules, module.modules())):
        return module
    try:
        return copy.deepcopy(unwrap(module))  # type: ignore[no-any-return]
    except Exception:  # any type of error, from modules of users and of torch
        return module


def _has_functions_of_modules(module: nn.Module) -> bool:
    """Whether an attribute or a hook of a module is a function that holds a module."""
    hooks = (value for name, value in vars(module).items() if name.endswith("_hooks") and isinstance(value, dict))
    functions = [*vars(module).values(), *(hook for each in hooks for hook in each.values())]
    return any(
        isinstance(f, FunctionType | functools.partial) and any(True for _ in modules_behind(f)) for f in functions
    )


def is_parallel_wrapper(model: Any) -> bool:
    """Return whether a module, perhaps compiled, is ``DataParallel`` or ``DistributedDataParallel``.

    Example:
        >>> is_parallel_wrapper(nn.DataParallel(nn.Linear(2, 2)))
        True
    """
    while isinstance(model, nn.Module) and is_compiled(model):
        model = model._modules["_orig_mod"]
    return isinstance(model, _PARALLEL)


def is_scripted(model: Any) -> bool:
    """Return whether a module is the result of ``torch.jit.script`` or ``torch.jit.trace``.

    Example:
        >>> is_scripted(nn.ReLU())
        False
    """
    return isinstance(model, torch.jit.ScriptModule)


def eager_execution(model: Any) -> AbstractContextManager[Any]:
    """Return a context in which a compiled model runs its Python code, and with it the hooks on inner layers.

    Example:
        >>> with eager_execution(nn.Linear(2, 2)):
        ...     pass
    """
    compiled = any(getattr(module, "_compiled_call_impl", None) is not None for module in model.modules())
    compiled = compiled or any(is_compiled(module) for module in model.modules())
    set_stance = getattr(torch.compiler, "set_stance", None)  # from torch 2.6
    return set_stance("force_eager") if compiled and set_stance else nullcontext()


def is_compiled(model: nn.Module) -> bool:
    """Whether ``torch.compile`` returned the module; the class itself is in a package that is slow to import."""
    return not is_scripted(model) and "_orig_mod" in model._modules
