"""Weights that torch's ``fully_shard`` has divided among the processes (FSDP2)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from pretextkit.errors import OptionError

__all__ = ["class_name", "divided", "gathered", "is_divided", "is_sharded", "share_buffers", "whole", "whole_weights"]


def is_sharded(module: nn.Module) -> bool:
    """Tell whether the weights of a module are divided among the processes.

    Raises:
        OptionError: Some are and some are not: nothing would average the gradients of the others.

    Example:
        >>> is_sharded(nn.Linear(2, 2))
        False
    """
    divided = [is_divided(weight) for weight in module.parameters()]
    if any(divided) and not (all(divided) and hasattr(module, "unshard")):
        raise OptionError(
            "a task whose weights are all sharded",
            got="some that are not, or no fully_shard of the task itself",
            fix="Call fully_shard(task) last, after those of its blocks.",
        )
    return any(divided)


def class_name(module: nn.Module) -> str:
    """Name a module's class, which ``fully_shard`` replaces by one derived from it.

    Example:
        >>> class_name(nn.Linear(2, 2))
        'Linear'
    """
    kind = type(module)
    return (kind.__bases__[-1] if hasattr(module, "unshard") else kind).__name__


def whole(tensor: Tensor) -> Tensor:
    """Give all of a tensor of which this process may have a part; all processes must call it.

    Example:
        >>> whole(torch.ones(2))
        tensor([1., 1.])
    """
    divided: Any = tensor
    return divided.full_tensor() if is_divided(tensor) else tensor


@contextmanager
def whole_weights(module: nn.Module) -> Iterator[None]:
    """Let parts of a module be called without it, which gathers the weights when it is called itself.

    Example:
        >>> with whole_weights(nn.Linear(2, 2)):
        ...     pass
    """
    sharded: Any = module if hasattr(module, "unshard") else None
    if sharded is not None:
        sharded.unshard()
    try:
        yield
    finally:
        if sharded is not None:
            sharded.reshard()


def gathered(state: Any, keep: bool) -> Any:
    """Bring the tensors of nested dicts together on the CPU, as a run whose weights are not divided has them.

    Args:
        state: As ``state_dict`` gives it; all processes must call this with theirs.
        keep: Whether this process needs the result; the memory of the others is spared.

    Example:
        >>> gathered({"weight": torch.ones(2), "step": 3}, keep=True)
        {'weight': tensor([1., 1.]), 'step': 3}
    """
    if isinstance(state, dict):
        return {name: gathered(value, keep) for name, value in state.items()}
    if not (isinstance(state, Tensor) and is_divided(state)):
        return state
    complete = whole(state)
    return complete.cpu() if keep else None


def divided(state: dict[Any, Any], like: dict[Any, Tensor] | Sequence[Tensor]) -> dict[Any, Any]:
    """Undo :func:`gathered`, for a dict of tensors or of dicts of them.

    Args:
        state: By the names, or numbers, of ``like``.
        like: Weights, which tell how the tensors of their shape are divided.

    Example:
        >>> divided({0: {"step": 3, "velocity": torch.ones(2)}}, [torch.zeros(2)])
        {0: {'step': 3, 'velocity': tensor([1., 1.])}}
    """
    return {name: _divided(value, like[name]) for name, value in state.items()}


def share_buffers(module: nn.Module) -> None:
    """Give everyone the first process's buffers, as ``DistributedDataParallel`` does where weights are not divided."""
    for buffer in module.buffers():
        torch.distributed.broadcast(buffer, 0)


def is_divided(tensor: Tensor) -> bool:
    """Tell whether this process has a part of a tensor only.

    Example:
        >>> is_divided(torch.ones(2))
        False
    """
    return hasattr(tensor, "full_tensor")  # a DTensor, whose class takes a second to import


def _divided(value: Any, like: Tensor) -> Any:
    if isinstance(value, dict):
        return {name: _divided(each, like) for name, each in value.items()}
    if not (is_divided(like) and isinstance(value, Tensor) and value.shape == like.shape):
        return value
    from torch.distributed.tensor import distribute_tensor

    parts: Any = like
    return distribute_tensor(value, parts.device_mesh, parts.placements)
