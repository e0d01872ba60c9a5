"""Weights that torch's ``fully_shard`` has divided among the processes (FSDP2)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from pretextkit.errors import OptionError

__all__ = [
    "broadcast_buffers",
    "class_name",
    "full_tensor",
    "gather_state",
    "is_sharded",
    "is_sharded_tensor",
    "shard_state",
    "unsharded_weights",
]


def is_sharded(module: nn.Module) -> bool:
    """Tell whether the weights of a module are divided among the processes.

    Raises:
        OptionError: Some are and some are not: nothing would average the gradients of the others.

    Example:
        >>> is_sharded(nn.Linear(2, 2))
        False
    """
    shard_state = [is_sharded_tensor(weight) for weight in module.parameters()]
    if any(shard_state) and not (all(shard_state) and hasattr(module, "unshard")):
        raise OptionError(
            "a task whose weights are all sharded",
            got="some that are not, or no fully_shard of the task itself",
            fix="Call fully_shard(task) last, after those of its blocks.",
        )
    return any(shard_state)


def class_name(module: nn.Module) -> str:
    """Name a module's class, which ``fully_shard`` replaces by one derived from it.

    Example:
        >>> class_name(nn.Linear(2, 2))
        'Linear'
    """
    kind = type(module)
    return (kind.__bases__[-1] if hasattr(module, "unshard") else kind).__name__


def full_tensor(tensor: Tensor) -> Tensor:
    """Give all of a tensor of which this process may have a part; all processes must call it.

    Example:
        >>> full_tensor(torch.ones(2))
        tensor([1., 1.])
    """
    shard_state: Any = tensor
    return shard_state.full_tensor() if is_sharded_tensor(tensor) else tensor


@contextmanager
def unsharded_weights(module: nn.Module) -> Iterator[None]:
    """Let parts of a module be called without it, which gathers the weights when it is called itself.

    Example:
        >>> with unsharded_weights(nn.Linear(2, 2)):
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


def gather_state(state: Any, keep: bool) -> Any:
    """Bring the tensors of nested dicts together on the CPU, as a run whose weights are not divided has them.

    Args:
        state: As ``state_dict`` gives it; all processes must call this with theirs.
        keep: Whether this process needs the result; the memory of the others is spared.

    Example:
        >>> gather_state({"weight": torch.ones(2), "step": 3}, keep=True)
        {'weight': tensor([1., 1.]), 'step': 3}
    """
    if isinstance(state, dict):
        return {name: gather_state(value, keep) for name, value in state.items()}
    if not (isinstance(state, Tensor) and is_sharded_tensor(state)):
        return state
    complete = full_tensor(state)
    return complete.cpu() if keep else None


def shard_state(state: dict[Any, Any], like: dict[Any, Tensor] | Sequence[Tensor]) -> dict[Any, Any]:
    """Undo :func:`gather_state`, for a dict of tensors or of dicts of them.

    Args:
        state: By the names, or numbers, of ``like``.
        like: Weights, which tell how the tensors of their shape are divided.

    Example:
        >>> shard_state({0: {"step": 3, "velocity": torch.ones(2)}}, [torch.zeros(2)])
        {0: {'step': 3, 'velocity': tensor([1., 1.])}}
    """
    return {name: _divided(value, like[name]) for name, value in state.items()}


def broadcast_buffers(module: nn.Module) -> None:
    """Give everyone the first process's buffers, as ``DistributedDataParallel`` does where weights are not divided."""
    for buffer in module.buffers():
        torch.distributed.broadcast(buffer, 0)


def is_sharded_tensor(tensor: Tensor) -> bool:
    """Tell whether this process has a part of a tensor only.

    Example:
        >>> is_sharded_tensor(torch.ones(2))
        False
    """
    return hasattr(tensor, "full_tensor")  # a DTensor, whose class takes a second to import


def _divided(value: Any, like: Tensor) -> Any:
    if isinstance(value, dict):
        return {name: _divided(each, like) for name, each in value.items()}
    if not (is_sharded_tensor(like) and isinstance(value, Tensor) and value.shape == like.shape):
        return value
    from torch.distributed.tensor import distribute_tensor

    parts: Any = like
    return distribute_tensor(value, parts.device_mesh, parts.placements)
