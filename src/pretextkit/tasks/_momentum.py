"""A momentum copy, and a queue of embeddings: state of a task that moves once in each optimizer step."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from pretextkit._validation import check_float, check_int
from pretextkit.distributed import all_reduce_mean, gather_rows
from pretextkit.errors import ShapeError

__all__ = ["EmbeddingQueue", "MomentumCopy", "RunningMean"]


class MomentumCopy(nn.Module):
    """A copy of modules, applied one after the other, whose weights follow theirs with a delay (mean teacher).

    The copy shares no memory with the originals and has no gradient. It is in the mode of the task: in training,
    BatchNorm uses the statistics of the copy's own batches, as in BYOL and MoCo v3.

    Args:
        modules: Modules to copy.
        momentum: Share of the old weights that is kept in each step.

    Raises:
        OptionError: The momentum is not in [0, 1).

    Example:
        >>> student = nn.Linear(2, 2)
        >>> teacher = MomentumCopy(student, momentum=0.9)
        >>> teacher(torch.ones(1, 2)).requires_grad
        False
        >>> before = teacher.modules_copied[0].bias.clone()
        >>> _ = student.bias.data.add_(1)
        >>> teacher.follow(student)  # call it in after_step
        >>> teacher.modules_copied[0].bias - before
        tensor([0.1000, 0.1000])
    """

    def __init__(self, *modules: nn.Module, momentum: float = 0.99) -> None:
        super().__init__()
        self.momentum = check_float("momentum", momentum, "[0, 1)", fix="For example 0.99; 0 copies every step.")
        self.modules_copied = nn.ModuleList(copy.deepcopy(module) for module in modules).requires_grad_(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Apply the modules one after the other, without gradient."""
        for module in self.modules_copied:
            images = module(images)
        return images

    @torch.no_grad()
    def follow(self, *modules: nn.Module) -> None:
        """Move the weights towards those of ``modules``, the originals in the same order."""
        for own, original in zip(self.modules_copied, modules, strict=True):
            for slow, fast in zip(own.parameters(), original.parameters(), strict=True):
                slow.lerp_(fast, 1 - self.momentum)


class EmbeddingQueue(nn.Module):
    """The newest embeddings of earlier steps, on all processes alike.

    Args:
        size: Number of embeddings.
        dim: Width of an embedding.

    Raises:
        OptionError: A number is not an integer >= 1.

    Example:
        >>> queue = EmbeddingQueue(3, 2)
        >>> queue.add(torch.eye(2))  # in forward
        >>> queue.commit()  # in after_step
        >>> queue.rows[:2]
        tensor([[1., 0.],
                [0., 1.]])
    """

    rows: Tensor
    """``size dim``, of unit length, newest first; random at the beginning."""

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        size, dim = check_int("size", size), check_int("dim", dim)
        self.register_buffer("rows", nn.functional.normalize(torch.randn(size, dim)))
        self._pending: list[Tensor] = []

    def add(self, embeddings: Tensor) -> None:
        """Collect embeddings ``n dim`` of all processes for :meth:`commit`, if this is a step of training."""
        if embeddings.ndim != 2 or embeddings.shape[1] != self.rows.shape[1]:
            raise ShapeError(
                f"embeddings n {self.rows.shape[1]}",
                got=f"shape {tuple(embeddings.shape)}",
                fix="Build the queue with the width of the embeddings.",
            )
        if self.training and torch.is_grad_enabled():
            self._pending.append(nn.functional.normalize(gather_rows(embeddings.detach()).to(self.rows.dtype)))

    def commit(self) -> None:
        """Put the collected embeddings into the queue, and drop the oldest."""
        self.rows.copy_(torch.cat([*self._pending, self.rows])[: len(self.rows)])
        self._pending.clear()


class RunningMean(nn.Module):
    """Exponential mean of a measurement over optimizer steps, on all processes alike.

    Args:
        dim: Width of the measurement.
        momentum: Share of the old mean that is kept in each step.

    Raises:
        OptionError: The momentum is not in [0, 1), or the width is not an integer >= 1.

    Example:
        >>> center = RunningMean(2, momentum=0.9)
        >>> center.add(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))  # in forward
        >>> center.commit()  # in after_step
        >>> center.mean
        tensor([0.2000, 0.3000])
    """

    mean: Tensor
    """``dim``; 0 at the beginning."""

    def __init__(self, dim: int, *, momentum: float = 0.9) -> None:
        super().__init__()
        self.momentum = check_float("momentum", momentum, "[0, 1)", fix="For example 0.9.")
        self.register_buffer("mean", torch.zeros(check_int("dim", dim)))
        self._pending: list[Tensor] = []

    def add(self, rows: Tensor) -> None:
        """Collect the mean of rows ``n dim`` of all processes for :meth:`commit`, if this is a step of training."""
        if self.training and torch.is_grad_enabled():
            self._pending.append(all_reduce_mean(rows.detach().to(self.mean.dtype).mean(0)))

    def commit(self) -> None:
        """Move the mean towards the mean of what was collected."""
        if self._pending:
            self.mean.lerp_(torch.stack(self._pending).mean(0), 1 - self.momentum)
            self._pending.clear()
