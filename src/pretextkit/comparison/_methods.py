"""The ways of training that a comparison sets side by side, each a row."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from pretextkit._fingerprint import digest, plain_attributes
from pretextkit._seeding import seeded
from pretextkit.comparison import _cost
from pretextkit.contracts import Backbone, PretextTask
from pretextkit.data._sources import ImageSource, TensorImages
from pretextkit.errors import DataError
from pretextkit.evaluation._finetune import freeze_and_finetune
from pretextkit.models.heads import LinearHead
from pretextkit.training._hardware import Precision, resolve_device
from pretextkit.training._pretrain import pretrain
from pretextkit.training._sampler import sample_images, unmeasured_normalizations

__all__ = ["ExperimentSetup", "Method", "Pretrained", "RandomInit", "Supervised", "TaskFactory", "Trained"]

TaskFactory = Callable[[Any], PretextTask[Any, Any]]
"""From a backbone to a task around it: a task's class, or a function that sets its options."""


@dataclass(frozen=True)
class ExperimentSetup:
    """On what everything trains, and for how long."""

    images: ImageSource
    """What is pretrained on."""
    train: TensorImages
    """What is trained on with labels."""
    classes: int
    epochs: int | None
    """Passes over the images, for every task as many; either this or ``views_per_image``."""
    views_per_image: float | None
    """Views of each image that a task's backbone sees, for every task as many."""
    batch_size: int
    precision: Precision
    device: str | torch.device
    pretraining: Mapping[str, Any]
    """Further options of :func:`~pretextkit.functional.pretrain`."""
    finetuning: Mapping[str, Any]
    """Further options of :func:`~pretextkit.functional.freeze_and_finetune`."""

    def steps(self, views: float) -> int:
        """Tell how many steps the budget allows a task that makes ``views`` of each image."""
        per_epoch = len(self.images) // self.batch_size
        passes = self.epochs if self.epochs is not None else (self.views_per_image or 0) / views
        return max(1, round(passes * per_epoch))

    def supervised_epochs(self) -> int:
        """Tell how many passes over the labeled images show as many images as the budget allows."""
        passes = self.epochs if self.epochs is not None else self.views_per_image or 0
        batch = min(self.batch_size, len(self.train))
        allowed, per_pass = (
            len(images) // size * size for images, size in ((self.images, self.batch_size), (self.train, batch))
        )
        return max(1, round(passes * allowed / per_pass))


class Trained(NamedTuple):
    """How a backbone was trained."""

    backbone: Backbone
    steps: int
    images: int
    """Images read."""
    views: float
    """Whole images' worth of pixels that the backbone saw."""
    seconds: float
    metrics: Mapping[str, float]
    """The last row of the history."""


@dataclass(frozen=True)
class Method(ABC):
    """A way of training a new backbone."""

    name: str
    make: Callable[[], Backbone]
    schedule: ExperimentSetup

    def backbone(self, seed: int) -> Backbone:
        """Build the backbone that all ways begin with under one seed."""
        with seeded(seed):
            backbone = self.make()
        if not isinstance(backbone, Backbone):
            raise DataError(
                "a pretextkit.Backbone from the factory",
                got=type(backbone).__name__,
                fix="Derive it from Backbone or SpatialBackbone.",
            )
        return backbone

    def measured_backbone(self, seed: int) -> Backbone:
        """Build it with its normalization measured on the images that are pretrained on, as pretraining does."""
        backbone = self.backbone(seed)
        for normalization in unmeasured_normalizations(backbone):
            normalization.measure(sample_images(self.schedule.images, seed))
        return backbone

    def module(self, seed: int) -> nn.Module:
        """Build all that trains."""
        return self.backbone(seed)

    def describe(self, seed: int) -> dict[str, Any]:
        """Say what another call must share to have the same result."""
        module = self.module(seed)
        backbone = module.backbone if isinstance(module, PretextTask) else module
        return {
            "row": self.name,
            "seed": seed,
            "backbone": type(backbone).__name__,
            "trained": type(module).__name__,
            **plain_attributes(module, "trained"),
            "initial weights": digest(module.state_dict().values()),
        }

    @abstractmethod
    def work(self) -> int:
        """Tell how many batches of whole images it takes."""

    @abstractmethod
    def train(self, seed: int, checkpoint: Path | None, done: Callable[[float, float], None]) -> Trained:
        """Train, and tell ``done`` now and then how much of :meth:`work` is done and what the loss is."""


@dataclass(frozen=True)
class RandomInit(Method):
    """No training at all."""

    def work(self) -> int:
        return 0

    def train(self, seed: int, checkpoint: Path | None, done: Callable[[float, float], None]) -> Trained:
        backbone = self.measured_backbone(seed).to(resolve_device(self.schedule.device))
        return Trained(backbone, 0, 0, 0.0, 0.0, {})


@dataclass(frozen=True)
class Supervised(Method):
    """Training with all labels."""

    def work(self) -> int:
        return self.schedule.supervised_epochs() * len(self.schedule.train) // self.schedule.batch_size

    def train(self, seed: int, checkpoint: Path | None, done: Callable[[float, float], None]) -> Trained:
        schedule = self.schedule
        backbone = self.measured_backbone(seed)
        with seeded(seed):
            head = LinearHead(backbone.feature_dim, schedule.classes)
        own = ("trainable", "head_epochs", "batch_size")  # all of it trains, on the budget
        options = {name: value for name, value in schedule.finetuning.items() if name not in own}
        result = freeze_and_finetune(
            backbone,
            head,
            schedule.train,
            trainable="all",
            epochs=schedule.supervised_epochs(),
            batch_size=schedule.batch_size,
            precision=schedule.precision,
            device=schedule.device,
            seed=seed,
            progress=False,
            **options,
        )
        last = result.history.last
        images = round(last["step"]) * min(schedule.batch_size, len(schedule.train))
        return Trained(backbone, round(last["step"]), images, float(images), result.seconds, last)


@dataclass(frozen=True)
class Pretrained(Method):
    """Pretraining by a pretext task, without labels."""

    task: TaskFactory

    @cached_property
    def views_per_image(self) -> float:
        """Count the views that a step makes of each image."""
        return _cost.views_per_image(self.module(0), self.schedule.images)

    def module(self, seed: int) -> PretextTask[Any, Any]:
        """Build the task around a new backbone."""
        with seeded(seed):
            backbone = self.make()
            task = self.task(backbone)
        if not isinstance(task, PretextTask) or task.backbone is not backbone:
            raise DataError(
                f"a pretext task around the backbone it was given as {self.name!r}",
                got=type(task).__name__ if not isinstance(task, PretextTask) else "one around another backbone",
                fix="Pass a task's class, or a function such as lambda backbone: SimCLR(backbone, jitter=0.2).",
            )
        return task

    def work(self) -> int:
        return round(self.schedule.steps(self.views_per_image) * self.views_per_image)

    def train(self, seed: int, checkpoint: Path | None, done: Callable[[float, float], None]) -> Trained:
        schedule, task = self.schedule, self.module(seed)
        steps = schedule.steps(self.views_per_image)
        begun = time.monotonic()
        result = pretrain(
            task,
            schedule.images,
            steps=steps,
            batch_size=schedule.batch_size,
            precision=schedule.precision,
            device=schedule.device,
            seed=seed,
            checkpoint=checkpoint,
            progress=False,
            callbacks=[lambda row: done(row["step"] * self.views_per_image, row["loss"])],
            **schedule.pretraining,
        )
        last = result.history.last
        images = steps * schedule.batch_size
        seconds = last.get("seconds", time.monotonic() - begun)
        return Trained(task.backbone, steps, images, images * self.views_per_image, seconds, last)
