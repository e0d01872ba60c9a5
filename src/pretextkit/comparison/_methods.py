"""Methods of training a backbone that a comparison sets side by side."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from pretextkit._fingerprint import digest, module_options
from pretextkit._modules import module_dtype
from pretextkit._seeding import seeded
from pretextkit.comparison import _cost
from pretextkit.comparison._setup import ExperimentSetup
from pretextkit.contracts import Backbone, PretextTask
from pretextkit.errors import DataError, DuplicateNameError, OptionError
from pretextkit.finetuning._finetune import FinetuneOptions, freeze_and_finetune
from pretextkit.registries import backbones, pretext_tasks
from pretextkit.training._callbacks import CallbackLike, check_callbacks
from pretextkit.training._hardware import resolve_device
from pretextkit.training._pretrain import pretrain
from pretextkit.training._sampler import sample_images, unmeasured_normalizations

__all__ = ["Method", "TaskFactory", "TrainedBackbone", "build_methods"]

RANDOM_INIT, SUPERVISED = "random init", "supervised"

TaskFactory = Callable[[Any], PretextTask[Any, Any]]
"""Function from a backbone to a task around it: a class of tasks, or a function that sets options."""

OnProgress = Callable[[float, float], None]
"""Function of the cost so far and the current loss."""


class TrainedBackbone(NamedTuple):
    """A trained backbone and the cost of its training."""

    backbone: Backbone
    steps: int
    images: int
    """Images read."""
    views: float
    """Pixels through the backbone, in full images."""
    seconds: float
    metrics: Mapping[str, float]
    """Last row of the history."""
    settings: str
    """Settings of the training, with the values that stood for those that the call left out."""


@dataclass(frozen=True)
class Method(ABC):
    """A method of training a new backbone."""

    name: str
    backbone_factory: Callable[[], Backbone]
    setup: ExperimentSetup

    def new_backbone(self, seed: int) -> Backbone:
        """Build the backbone from which all methods start under one seed."""
        with seeded(seed):
            backbone = self.backbone_factory()
        if not isinstance(backbone, Backbone):
            raise DataError(
                "a pretextkit.Backbone from the factory",
                got=type(backbone).__name__,
                fix="Return pretextkit.models.wrap(network), or derive the class from Backbone or SpatialBackbone.",
                see="a-network-as-backbone",
            )
        return backbone

    def normalized_backbone(self, seed: int) -> Backbone:
        """Build a backbone with its normalization measured on the images for pretraining, as pretraining does."""
        backbone = self.new_backbone(seed)
        for normalization in unmeasured_normalizations(backbone):
            normalization.measure(sample_images(self.setup.source, seed))
        return backbone

    def backbone_name(self) -> str:
        """Return the class name of the backbone."""
        return type(self.new_backbone(0)).__name__

    def new_module(self, seed: int) -> nn.Module:
        """Build the module that trains."""
        return self.new_backbone(seed)

    def identity(self, seed: int) -> dict[str, Any]:
        """Describe everything that the result of a run depends on."""
        module = self.new_module(seed)
        backbone = module.backbone if isinstance(module, PretextTask) else module
        return {
            **self.setup.identity(),
            "method": self.name,
            "seed": seed,
            "backbone": type(backbone).__name__,
            "trained": type(module).__name__,
            **module_options(module, "trained"),
            "initial weights": digest(module.state_dict().values()),
        }

    def callbacks(self, seed: int) -> list[CallbackLike]:
        """Build the caller's callbacks of a run."""
        make = self.setup.callbacks
        return [] if make is None else check_callbacks(make(self.name, seed))

    @abstractmethod
    def cost(self) -> int:
        """Return the cost of the training, in full images through the backbone."""

    @abstractmethod
    def train(self, seed: int, checkpoint: Path | None, on_progress: OnProgress) -> TrainedBackbone:
        """Train a new backbone and report the progress."""


@dataclass(frozen=True)
class RandomInit(Method):
    """Random initialization without training."""

    def cost(self) -> int:
        return 0

    def train(self, seed: int, checkpoint: Path | None, on_progress: OnProgress) -> TrainedBackbone:
        backbone = self.normalized_backbone(seed).to(resolve_device(self.setup.device))
        return TrainedBackbone(backbone, 0, 0, 0.0, 0.0, {}, "no training")


@dataclass(frozen=True)
class Supervised(Method):
    """Supervised training with all labels of train."""

    def cost(self) -> int:
        return self.setup.supervised_epochs() * len(self.setup.train_set)

    def train(self, seed: int, checkpoint: Path | None, on_progress: OnProgress) -> TrainedBackbone:
        setup = self.setup
        backbone = self.normalized_backbone(seed)
        options: FinetuneOptions = {
            **setup.finetuning,
            "trainable": "all",
            "batch_size": setup.supervised_batch(),
        }
        result = freeze_and_finetune(
            backbone,
            "linear",
            setup.train_set,
            epochs=setup.supervised_epochs(),
            precision=setup.precision,
            device=setup.device,
            seed=seed,
            progress=False,
            callbacks=self.callbacks(seed),
            **options,
        )
        last = result.history.last
        steps = result.settings.steps
        images = steps * result.settings.batch_size
        settings = str(result.settings)
        return TrainedBackbone(backbone, steps, images, float(images), result.seconds, last, settings)


@dataclass(frozen=True)
class Pretrained(Method):
    """Pretraining with a pretext task, without labels."""

    task_factory: TaskFactory

    @cached_property
    def views_per_image(self) -> float:
        """Views that a step makes of each image."""
        return _cost.views_per_image(self.new_module(0), self.setup.source)

    def new_module(self, seed: int) -> PretextTask[Any, Any]:
        """Build the task around a new backbone."""
        with seeded(seed):
            backbone = self.backbone_factory()
            task = self.task_factory(backbone)
        if not isinstance(task, PretextTask) or task.backbone is not backbone:
            raise DataError(
                f"a pretext task around the given backbone from the factory {self.name!r}",
                got=type(task).__name__ if not isinstance(task, PretextTask) else "a task around another backbone",
                fix="Pass the class of a task, or a function: lambda backbone: SimCLR(backbone, temperature=0.2).",
            )
        return task if module_dtype(backbone) == torch.float32 else task.to(module_dtype(backbone))

    @cached_property
    def batch_size(self) -> int:
        """Images in a step."""
        return self.setup.pretraining_batch(self.new_module(0).recommended)

    @cached_property
    def steps(self) -> int:
        """Optimizer steps."""
        return self.setup.pretraining_steps(self.views_per_image, self.batch_size)

    def identity(self, seed: int) -> dict[str, Any]:
        """Describe everything that the result of a run depends on, with the settings that the task recommends."""
        recommended = repr(self.new_module(seed).recommended)
        return super().identity(seed) | {"batch of the task": self.batch_size, "recommended": recommended}

    def cost(self) -> int:
        return round(self.steps * self.batch_size * self.views_per_image)

    def train(self, seed: int, checkpoint: Path | None, on_progress: OnProgress) -> TrainedBackbone:
        setup, task, views = self.setup, self.new_module(seed), self.batch_size * self.views_per_image
        start = time.monotonic()
        result = pretrain(
            task,
            setup.source,
            steps=self.steps,
            batch_size=self.batch_size,
            precision=setup.precision,
            device=setup.device,
            seed=seed,
            checkpoint=checkpoint,
            extend=False,
            progress=False,
            callbacks=[
                *self.callbacks(seed),
                lambda row: on_progress(row["step"] * views, row["loss"]),
            ],
            **setup.pretraining,
        )
        last, steps = result.history.last, result.steps
        images = steps * self.batch_size
        seconds = last.get("seconds", time.monotonic() - start)
        settings = str(result.settings)
        return TrainedBackbone(task.backbone, steps, images, steps * views, seconds, last, settings)


def build_methods(
    tasks: Iterable[str] | Mapping[str, TaskFactory], backbone: str | Callable[[], Backbone], setup: ExperimentSetup
) -> list[Method]:
    """Build the methods of a comparison: random initialization, supervised training, and one per task.

    Raises:
        OptionError: Tasks are not given by names or factories.
        DuplicateNameError: Two methods have one name.
        UnknownNameError: A task or backbone does not exist.
    """
    if isinstance(tasks, str):
        raise OptionError("a list of task names, or a mapping", got=repr(tasks), fix=f"Write [{tasks!r}].")
    names = list(tasks)
    if unnamed := [name for name in names if not isinstance(name, str)]:
        raise OptionError(
            "task names, or a mapping from names to factories",
            got=getattr(unnamed[0], "__name__", f"a {type(unnamed[0]).__name__}"),
            fix='Name the task: {"rotation": Rotation}.',
        )
    backbone_factory = backbones[backbone] if isinstance(backbone, str) else backbone
    task_factories = tasks if isinstance(tasks, Mapping) else {name: pretext_tasks[name] for name in names}
    taken = [RANDOM_INIT, SUPERVISED, *names]
    for name in names:
        if taken.count(name) > 1:
            raise DuplicateNameError(
                "one method of each name", got=f"two methods named {name!r}", fix="Choose another name."
            )
    for what, factory in (("backbone", backbone_factory), *task_factories.items()):
        if isinstance(factory, nn.Module) or not callable(factory):
            raise OptionError(
                f"a factory for {what!r}, because every run trains a new module",
                got=f"a {type(factory).__name__}",
                fix="Pass its class, or a function that builds it.",
            )
    return [
        RandomInit(RANDOM_INIT, backbone_factory, setup),
        Supervised(SUPERVISED, backbone_factory, setup),
        *(Pretrained(name, backbone_factory, setup, factory) for name, factory in task_factories.items()),
    ]
