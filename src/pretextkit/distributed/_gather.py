"""What a loss needs from the other processes of a run under torch.distributed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import torch
from torch import Tensor

__all__ = ["Rank", "all_reduce_mean", "collective_scope", "current_rank", "gather_rows"]


class Rank(NamedTuple):
    """Which of how many processes this one is."""

    rank: int
    world_size: int


_ALONE = Rank(0, 1)
_place: ContextVar[Rank] = ContextVar("current_rank", default=_ALONE)


def current_rank() -> Rank:
    """Tell which of the processes that score one batch together this is; the only one outside of ``pretrain``.

    Example:
        >>> current_rank()
        Rank(rank=0, world_size=1)
    """
    return _place.get()


@contextmanager
def collective_scope(where: Rank) -> Iterator[None]:
    """Let the functions of this file reach the other processes, each of which must come by.

    ``pretrain`` scores batches inside of it; everywhere else, a process may score a batch alone.

    Args:
        where: This process's place among them.

    Example:
        >>> with collective_scope(Rank(rank=1, world_size=2)):
        ...     current_rank().rank
        1
    """
    token = _place.set(where)
    try:
        yield
    finally:
        _place.reset(token)


def gather_rows(rows: Tensor) -> Tensor:
    """Gather the rows of all processes that train together, with the exact gradient.

    A row's gradient is the sum of those that it gets in the losses of all processes. Handing each process its own
    share of its own gradient alone would give the same loss and another gradient: that of a loss in which the other
    processes' rows are constants.

    Args:
        rows: ``b d``, as many on every process.

    Returns:
        ``p b d`` as ``(p b) d``, process by process, where ``p`` train together; ``rows`` where one trains alone.

    Example:
        >>> gather_rows(torch.eye(2))
        tensor([[1., 0.],
                [0., 1.]])
    """
    where = current_rank()
    if where.world_size == 1:
        return rows
    gathered: Tensor = _GatherRows.apply(rows, where)
    return gathered


@torch.no_grad()
def all_reduce_mean(value: Tensor) -> Tensor:
    """Average a tensor over all processes that train together; no gradient passes.

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
    def forward(ctx: Any, rows: Tensor, where: Rank) -> Tensor:
        ctx.where = where  # backward runs in threads that know nothing of this one's context
        gathered = [torch.empty_like(rows, memory_format=torch.contiguous_format) for _ in range(where.world_size)]
        torch.distributed.all_gather(gathered, rows.contiguous())
        return torch.cat(gathered)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        rank, count = ctx.where
        if upstream.is_cuda:
            own = upstream.new_empty(len(upstream) // count, *upstream.shape[1:])
            torch.distributed.reduce_scatter_tensor(own, upstream.contiguous())
            return own, None
        total = upstream.clone(memory_format=torch.contiguous_format)  # gloo scatters no sums before torch 2.6
        torch.distributed.all_reduce(total)
        return total.chunk(count)[rank], None
