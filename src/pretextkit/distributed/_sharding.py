"""State of weights that torch's ``fully_shard`` (FSDP2) has sharded over the processes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch  # noqa: F401 - in the examples
from torch import Tensor, nn

from pretextkit.errors import OptionError

__all__ = ["class_name", "full_tensor", "gather_state", "has_sharded_part", "is_sharded", "shard_state"]


def is_sharded(module: nn.Module) -> bool:
    """Return whether the weights of a module are sharded over the processes.

    Raises:
        OptionError: Only some weights are sharded: nothing would average the gradients of the others.

    Example:
        >>> is_sharded(nn.Linear(2, 2))
        False
    """
    sharded = [_is_sharded_tensor(weight) for weight in module.parameters()]
    if any(sharded) and not (all(sharded) and hasattr(module, "unshard")):
        raise OptionError(
            "a task whose weights are all sharded",
            got="weights that are not sharded, or a task without its own fully_shard",
            fix="Call fully_shard(task) last, after fully_shard on its blocks.",
        )
    return any(sharded)


def has_sharded_part(module: nn.Module) -> bool:
    """Whether ``fully_shard`` was applied to a module or to a part of it.

    Example:
        >>> has_sharded_part(nn.Linear(2, 2))
        False
    """
    return any(hasattr(each, "unshard") for each in module.modules())


def class_name(module: nn.Module) -> str:
    """Return the name of a module's class, which ``fully_shard`` replaces by a subclass.

    Example:
        >>> class_name(nn.Linear(2, 2))
        'Linear'
    """
    kind = type(module)
    return (kind.__bases__[-1] if hasattr(module, "unshard") else kind).__name__


def full_tensor(tensor: Tensor) -> Tensor:
    """Gather a tensor, if it is sharded, on every process. All processes must call it.

    Example:
        >>> full_tensor(torch.ones(2))
        tensor([1., 1.])
    """
    shard: Any = tensor
    return shard.full_tensor() if _is_sharded_tensor(tensor) else tensor


def gather_state(state: Any, keep: bool) -> Any:
    """Gather the tensors of nested dicts on the CPU, as an unsharded run has them. All processes must call it.

    Args:
        state: Result of ``state_dict``.
        keep: Whether this process needs the result; other processes save the memory.

    Example:
        >>> gather_state({"weight": torch.ones(2), "step": 3}, keep=True)
        {'weight': tensor([1., 1.]), 'step': 3}
    """
    if isinstance(state, dict):
        return {name: gather_state(value, keep) for name, value in state.items()}
    if not (isinstance(state, Tensor) and _is_sharded_tensor(state)):
        return state
    complete = full_tensor(state)
    return complete.cpu() if keep else None


def shard_state(state: dict[Any, Any], like: dict[Any, Tensor] | Sequence[Tensor]) -> dict[Any, Any]:
    """Undo :func:`gather_state`, for a dict of tensors or of dicts of tensors.

    Args:
        state: Full tensors, by the names or numbers of ``like``.
        like: Weights, whose sharding the tensors of the same shape take.

    Example:
        >>> shard_state({0: {"step": 3, "velocity": torch.ones(2)}}, [torch.zeros(2)])
        {0: {'step': 3, 'velocity': tensor([1., 1.])}}
    """
    return {name: _shard(value, like[name]) for name, value in state.items()}


def _is_sharded_tensor(tensor: Tensor) -> bool:
    return hasattr(tensor, "full_tensor")  # a DTensor, whose class takes a second to import


def _shard(value: Any, like: Tensor) -> Any:
    if isinstance(value, dict):
        return {name: _shard(each, like) for name, each in value.items()}
    if not (_is_sharded_tensor(like) and isinstance(value, Tensor) and value.shape == like.shape):
        return value
    from torch.distributed.tensor import distribute_tensor

    sharded: Any = like
    return distribute_tensor(value, sharded.device_mesh, sharded.placements)
