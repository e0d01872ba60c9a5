"""What the checks share: seeds, generators, and a pretext task with images to try it on."""

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
    "image_tensors",
    "map_tensors",
    "same",
    "score",
    "seeded",
    "tensors",
]

Task = PretextTask[Any, Any]
STEPS, BATCH = 80, 48
"""Length of the short training: enough for TinyBackbone on toy images, and about two seconds."""


def generator(seed: int) -> Generator:
    """Make a generator from a seed."""
    return Generator().manual_seed(seed)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the global RNGs (torch's initializes weights and drives dropout), and restore them afterwards."""
    with seeded_everywhere(seed):
        torch.manual_seed(seed)  # also seeds the accelerators, which are not restored
        yield


def global_rng_states() -> dict[str, bytes]:
    """Describe the states of the global RNGs, so that two moments can be compared."""
    import numpy as np

    return {
        "torch": pickle.dumps(torch.get_rng_state().tolist()),
        "numpy": pickle.dumps(np.random.get_state()),  # noqa: NPY002
        "Python": pickle.dumps(random.getstate()),
    }


def tensors(batch: object) -> list[Tensor]:
    """List the tensors in a batch, however nested."""
    if isinstance(batch, Tensor):
        return [batch]
    parts = batch.values() if isinstance(batch, dict) else batch if isinstance(batch, (tuple, list)) else ()
    return [tensor for part in parts for tensor in tensors(part)]


def image_tensors(batch: object) -> list[Tensor]:
    """List the tensors of a batch that are images: float, ``b c h w``."""
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
    """Tell whether two batches hold the same values, NaN equal to NaN."""
    ours, theirs = tensors(one), tensors(other)
    return len(ours) == len(theirs) and all(
        a.shape == b.shape
        and torch.allclose(a.detach().double(), b.detach().double(), rtol=tolerance, atol=tolerance, equal_nan=True)
        for a, b in zip(ours, theirs, strict=True)
    )


@dataclass(frozen=True)
class Trained:
    """A task after the short training, and its losses on unseen images."""

    task: Task
    before: Tensor
    """Loss on each unseen batch before training."""
    after: Tensor
    """Loss on each unseen batch after training."""
    metrics_before: dict[str, Tensor]
    metrics_after: dict[str, Tensor]


@dataclass(frozen=True)
class TaskCase:
    """A pretext task under test, and images to try it on."""

    make: Callable[[], Task]
    image_size: int | tuple[int, int] = 32
    channels: int = 3

    def task(self, seed: int = 0) -> Task:
        """Make the task with weights drawn from ``seed``."""
        with seeded(seed):
            task = self.make()
        require(isinstance(task, PretextTask), f"The factory makes a {type(task).__name__}, not a PretextTask.")
        return task.train()

    def images(self, n: int, seed: int = 0) -> Tensor:
        """Draw toy images."""
        return toy_images(n, size=self.image_size, channels=self.channels, generator=generator(seed))

    def batch(self, task: Task, *, n: int = 8, seed: int = 0) -> Any:
        """Make a batch of toy images' views, as ``PretextTask.step`` does."""
        return self.views(task, self.images(n, seed), seed)

    def views(self, task: Task, images: Tensor, seed: int = 0) -> Any:
        """Make a batch of ``images``' views, as ``PretextTask.step`` does."""
        with torch.no_grad():
            return task.views(images, generator(seed))

    def train(self, task: Task, steps: int = STEPS) -> Iterator[TaskOutput]:
        """Train ``task`` on new toy images at every step; yield between the gradient and the optimizer's step."""
        optimizer = torch.optim.AdamW([p for p in task.parameters() if p.requires_grad], lr=1e-3)
        draws = generator(1)
        for step in range(steps):
            with seeded(step):
                output = task.step(self.images(BATCH, seed=1000 + step), draws)
            optimizer.zero_grad()
            torch.autograd.backward(output.loss)
            yield output
            optimizer.step()
            task.after_step()

    def unseen(self, task: Task) -> list[Any]:
        """Make batches of images that training does not see."""
        return [self.batch(task, n=BATCH, seed=seed) for seed in range(16)]

    @cached_property
    def trained(self) -> Trained:
        """Train once; every check of learning looks at the same result."""
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
    """Score a copy of ``batch`` by a copy of ``task``: neither queues nor running statistics of the task move."""
    with torch.no_grad(), seeded(seed):
        output: TaskOutput = copy.deepcopy(task)(map_tensors(torch.clone, batch))
    return output


def _mean_metrics(outputs: list[TaskOutput]) -> dict[str, Tensor]:
    return {
        name: torch.stack([torch.as_tensor(o.metrics[name]).float() for o in outputs if name in o.metrics]).mean()
        for name in outputs[0].metrics
    }
