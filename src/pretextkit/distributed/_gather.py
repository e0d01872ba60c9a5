"""Exchange of rows and means between the processes that compute one loss."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import torch
from torch import Tensor

__all__ = ["Rank", "all_reduce_mean", "collective_scope", "current_rank", "gather_rows"]


class Rank(NamedTuple):
    """Rank of a process, and the number of processes."""

    rank: int
    world_size: int


_ALONE = Rank(0, 1)
_rank: ContextVar[Rank] = ContextVar("current_rank", default=_ALONE)


def current_rank() -> Rank:
    """Return the rank of this process. Outside of :func:`collective_scope` there is one process.

    Example:
        >>> current_rank()
        Rank(rank=0, world_size=1)
    """
    return _rank.get()


@contextmanager
def collective_scope(rank: Rank) -> Iterator[None]:
    """Context in which :func:`gather_rows` and :func:`all_reduce_mean` are collective: all processes must call them.

    ``pretrain`` computes losses inside this context. Elsewhere, a process may compute a loss alone.

    Args:
        rank: Rank of this process.

    Example:
        >>> with collective_scope(Rank(rank=1, world_size=2)):
        ...     current_rank().rank
        1
    """
    token = _rank.set(rank)
    try:
        yield
    finally:
        _rank.reset(token)


def gather_rows(rows: Tensor) -> Tensor:
    """Gather the rows of all processes, with the exact gradient.

    The gradient of a row is the sum of its gradients in the losses of all processes. Most gathers return only the
    gradient of the process's own loss. The loss is then the same, but the gradient is wrong: it treats the rows of
    other processes as constants.

    Args:
        rows: ``b d``, with the same ``b`` on every process.

    Returns:
        ``(p b) d``, ordered by rank, on ``p`` processes; ``rows`` itself on one.

    Example:
        >>> gather_rows(torch.eye(2))
        tensor([[1., 0.],
                [0., 1.]])
    """
    rank = current_rank()
    if rank.world_size == 1:
        return rows
    gathered: Tensor = _GatherRows.apply(rows, rank)
    return gathered


@torch.no_grad()
def all_reduce_mean(value: Tensor) -> Tensor:
    """Average a tensor over all processes, without gradient.

    Example:
        >>> all_reduce_mean(torch.tensor(2.0))
        tensor(2.)
    """
    count = current_rank().world_size
    if count == 1:
        return value
    total = value.clone()
    torch.distributed.all_reduce(total)
    return total / count


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, rank: Rank) -> Tensor:
        ctx.rank = rank  # backward runs in threads that do not see this context
        gathered = [torch.empty_like(rows, memory_format=torch.contiguous_format) for _ in range(rank.world_size)]
        torch.distributed.all_gather(gathered, rows.contiguous())
        return torch.cat(gathered)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        rank, count = ctx.rank
        if upstream.is_cuda:
            own = upstream.new_empty(len(upstream) // count, *upstream.shape[1:])
            torch.distributed.reduce_scatter_tensor(own, upstream.contiguous())
            return own, None
        total = upstream.clone(memory_format=torch.contiguous_format)  # gloo has no reduce_scatter before torch 2.6
        torch.distributed.all_reduce(total)
        return total.chunk(count)[rank], None
