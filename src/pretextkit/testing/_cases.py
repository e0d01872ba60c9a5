"""Shared parts of the checks: seeds, tensor utilities, and a pretext task with toy images."""

from __future__ import annotations

import copy
import pickle
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Generator, Tensor

from pretextkit._seeding import seeded_everywhere
from pretextkit.contracts import PretextTask, TaskOutput
from pretextkit.testing._runner import require
from pretextkit.testing._toys import toy_images

__all__ = [
    "TaskCase",
    "Trained",
    "generator",
    "global_rng_states",
    "global_seed",
    "image_tensors",
    "map_tensors",
    "same",
    "score",
    "tensors",
]

Task = PretextTask[Any, Any]
STEPS, BATCH = 80, 48
"""Steps and batch size of the short training: enough for TinyBackbone on toy images, in about two seconds."""


def generator(seed: int) -> Generator:
    """Build a seeded CPU generator."""
    return Generator().manual_seed(seed)


@contextmanager
def global_seed(seed: int) -> Iterator[None]:
    """Seed the global RNGs of torch, NumPy and Python, and restore them afterwards.

    A task may draw from any of the three by mistake, unlike the library, which only needs torch's.
    """
    with seeded_everywhere(seed):
        torch.manual_seed(seed)  # also seeds the accelerators, which are not restored
        yield


def global_rng_states() -> dict[str, bytes]:
    """Return the states of the global RNGs by library, for comparison."""
    import numpy as np

    return {
        "torch": pickle.dumps(torch.get_rng_state().tolist()),
        "numpy": pickle.dumps(np.random.get_state()),  # noqa: NPY002
        "Python": pickle.dumps(random.getstate()),
    }


def tensors(batch: object) -> list[Tensor]:
    """List the tensors in a nested batch."""
    if isinstance(batch, Tensor):
        return [batch]
    parts = batch.values() if isinstance(batch, dict) else batch if isinstance(batch, (tuple, list)) else ()
    return [tensor for part in parts for tensor in tensors(part)]


def image_tensors(batch: object) -> list[Tensor]:
    """List the image tensors of a batch: float, ``b c h w``."""
    return [tensor for tensor in tensors(batch) if tensor.ndim == 4 and tensor.is_floating_point()]


def map_tensors(function: Callable[[Tensor], Tensor], batch: Any) -> Any:
    """Apply ``function`` to every tensor in a batch and keep the batch's type."""
    if isinstance(batch, Tensor):
        return function(batch)
    if isinstance(batch, dict):
        return {key: map_tensors(function, part) for key, part in batch.items()}
    if isinstance(batch, (tuple, list)):
        parts = [map_tensors(function, part) for part in batch]
        return type(batch)(*parts) if hasattr(batch, "_fields") else type(batch)(parts)
    return batch


def same(one: object, other: object, *, tolerance: float = 0.0) -> bool:
    """Compare the values of two batches; NaN equals NaN."""
    ours, theirs = tensors(one), tensors(other)
    return len(ours) == len(theirs) and all(
        a.shape == b.shape
        and torch.allclose(a.detach().double(), b.detach().double(), rtol=tolerance, atol=tolerance, equal_nan=True)
        for a, b in zip(ours, theirs, strict=True)
    )


@dataclass(frozen=True)
class Trained:
    """Task after the short training, with its losses and metrics on unseen images."""

    task: Task
    before: Tensor
    """Loss on each unseen batch before training."""
    after: Tensor
    """Loss on each unseen batch after training."""
    metrics_before: dict[str, Tensor]
    metrics_after: dict[str, Tensor]


@dataclass(frozen=True)
class TaskCase:
    """Pretext task under test, with toy images."""

    make: Callable[[], Task]
    image_size: int | tuple[int, int] = 32
    channels: int = 3

    def task(self, seed: int = 0) -> Task:
        """Make the task with weights drawn from ``seed``."""
        with global_seed(seed):
            task = self.make()
        require(
            isinstance(task, PretextTask),
            f"Expected the factory to build a PretextTask, but got a {type(task).__name__}.",
        )
        return task.train()

    def images(self, n: int, seed: int = 0) -> Tensor:
        """Draw toy images."""
        return toy_images(n, size=self.image_size, channels=self.channels, generator=generator(seed))

    def batch(self, task: Task, *, n: int = 8, seed: int = 0) -> Any:
        """Make views of toy images, as ``PretextTask.step`` does."""
        return self.views(task, self.images(n, seed), seed)

    def views(self, task: Task, images: Tensor, seed: int = 0) -> Any:
        """Make views of ``images``, as ``PretextTask.step`` does."""
        with torch.no_grad():
            return task.views(images, generator(seed))

    def train(self, task: Task, steps: int = STEPS, learning_rate: float = 1e-3) -> Iterator[TaskOutput]:
        """Train ``task`` on new toy images at every step; yield after the backward pass, before the optimizer step."""
        optimizer = torch.optim.AdamW([p for p in task.parameters() if p.requires_grad], lr=learning_rate)
        draws = generator(1)
        for step in range(steps):
            with global_seed(step):
                output = task.step(self.images(BATCH, seed=1000 + step), draws)
            optimizer.zero_grad()
            torch.autograd.backward(output.loss)
            yield output
            optimizer.step()
            task.after_step()

    def unseen(self, task: Task) -> list[Any]:
        """Make views of images that training does not use."""
        return [self.batch(task, n=BATCH, seed=seed) for seed in range(16)]

    @cached_property
    def trained(self) -> Trained:
        """Train once, for all checks of learning."""
        task = self.task()
        batches = self.unseen(task)
        before = [score(task, batch) for batch in batches]
        for _ in self.train(task):
            pass
        after = [score(task, batch) for batch in batches]
        return Trained(
            task,
            torch.stack([output.loss for output in before]),
            torch.stack([output.loss for output in after]),
            _mean_metrics(before),
            _mean_metrics(after),
        )


def score(task: Task, batch: Any, seed: int = 0) -> TaskOutput:
    """Score a copy of ``batch`` with a copy of ``task``: queues and running statistics of the task stay the same."""
    with torch.no_grad(), global_seed(seed):
        output: TaskOutput = copy.deepcopy(task)(map_tensors(torch.clone, batch))
    return output


def _mean_metrics(outputs: list[TaskOutput]) -> dict[str, Tensor]:
    return {
        name: torch.stack([torch.as_tensor(o.metrics[name]).float() for o in outputs if name in o.metrics]).mean()
        for name in outputs[0].metrics
    }
