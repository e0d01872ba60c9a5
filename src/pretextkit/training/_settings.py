"""Settings of a run, and the plan that follows from the settings and the data."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import nn

from pretextkit._modules import unwrap
from pretextkit._starting_point import starts_note
from pretextkit._validation import check_float, check_int
from pretextkit.contracts import PretextTask, Recommended
from pretextkit.data._sources import ImageSource
from pretextkit.distributed._group import ALONE, ProcessGroup
from pretextkit.errors import OptionError
from pretextkit.training._hardware import Precision
from pretextkit.training._optim import OptimizerName, default_learning_rate, default_weight_decay

__all__ = ["Plan", "RunSettings", "Settings", "check_batch_norm", "make_plan", "run_settings"]


@dataclass(frozen=True)
class Settings:
    """Options of a run; ``None`` is a default that depends on the task, the data or the optimizer."""

    epochs: int | None = None
    steps: int | None = None
    batch_size: int | None = None
    accumulate: int = 1
    optimizer: OptimizerName = "adamw"
    learning_rate: float | None = None
    weight_decay: float | None = None
    warmup: float = 0.05
    clip_norm: float | None = None
    precision: Precision = "auto"
    device: str | torch.device = "auto"
    channels_last: bool = True
    compile: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for field in fields(self):
            object.__setattr__(self, field.name, _built_in(getattr(self, field.name)))


@dataclass(frozen=True)
class Plan:
    """Numbers of a run, from its settings and its data."""

    batch_size: int
    """Images in a step, on all processes together."""
    learning_rate: float
    """Highest learning rate."""
    per_epoch: int
    """Steps of an epoch, without a last partial batch."""
    total: int
    """Steps of the run."""
    warmup: int
    """Steps in which the learning rate rises."""
    epochs: int | None = None
    """Passes over the images; ``None`` if the run has a number of steps."""
    weight_decay: float = 0.0
    """Weight decay of matrices and filters."""
    extends: int = 0
    """Steps of the finished run that this run extends; the schedule of the learning rate begins after them."""

    def extending(self, steps: int, warmup: float) -> Plan:
        """Return the plan that extends a finished run of ``steps`` steps, with a warm-up in the added steps.

        Example:
            >>> plan = Plan(4, 0.1, per_epoch=2, total=20, warmup=2, epochs=10).extending(10, 0.1)
            >>> plan.warmup, plan.extends
            (1, 10)
        """
        return replace(self, extends=steps, warmup=math.ceil(warmup * (self.total - steps)))


@dataclass(frozen=True)
class RunSettings:
    """Settings of a run, with the values that stood for those that the call left out.

    Example:
        >>> print(RunSettings(20.0, 2500, 64, "adamw", 0.001, 0.05, 125, None))
        20 epochs, batch 64, learning rate 0.001, weight decay 0.05
    """

    epochs: float
    """Passes over the images."""
    steps: int
    """Optimizer steps."""
    batch_size: int
    """Images in a step, on all processes together."""
    optimizer: str
    """Name of the optimizer."""
    learning_rate: float
    """Highest learning rate."""
    weight_decay: float
    """Weight decay of matrices and filters."""
    warmup: int
    """Steps in which the learning rate rises."""
    augmentation: str | None
    """Augmentation before the views, by the task and by ``augment`` of the call; ``None`` without."""
    extends: int = 0
    """Steps of the finished run that this run extends; 0 without."""
    starts_from: str | None = None
    """Where the first weights come from, if they were trained before; None for random weights."""
    chance_accuracy: float | None = None
    """Accuracy of random guesses; ``None`` for a task without accuracy."""

    def __str__(self) -> str:
        epochs = f"{self.epochs:.3g} epoch{'' if self.epochs == 1 else 's'}"
        optimizer = "" if self.optimizer == "adamw" else f"{self.optimizer}, "
        augmentation = "" if self.augmentation is None else f", {self.augmentation}"
        if self.extends:
            epochs += f" ({self.extends} of {self.steps} steps in a finished run)"
        return (
            f"{epochs}, batch {self.batch_size}, {optimizer}learning rate {self.learning_rate:g}, "
            f"weight decay {self.weight_decay:g}{augmentation}{starts_note(self.starts_from)}"
        )


def run_settings(
    settings: Settings,
    plan: Plan,
    augmentation: str | None,
    starts_from: str | None = None,
    chance_accuracy: float | None = None,
) -> RunSettings:
    """Collect the resolved settings of a run.

    Example:
        >>> print(run_settings(Settings(optimizer="sgd"), Plan(50, 0.1, 2, 3, 1), None))
        1.5 epochs, batch 50, sgd, learning rate 0.1, weight decay 0
    """
    return RunSettings(
        epochs=plan.total / plan.per_epoch,
        steps=plan.total,
        batch_size=plan.batch_size,
        optimizer=settings.optimizer,
        learning_rate=plan.learning_rate,
        weight_decay=plan.weight_decay,
        warmup=plan.warmup,
        augmentation=augmentation,
        extends=plan.extends,
        starts_from=starts_from,
        chance_accuracy=chance_accuracy,
    )


def make_plan(
    settings: Settings, source: ImageSource, group: ProcessGroup = ALONE, task: nn.Module | None = None
) -> Plan:
    """Check the settings, and resolve those that are left out from the task, the data and the optimizer.

    Args:
        settings: Options of the run.
        source: Images to train on.
        group: Processes that share each batch.
        task: Module that trains as a whole, if its layers are to be checked; a pretext task recommends settings.

    Raises:
        OptionError: A setting is out of range, or does not fit the images, the processes or the task.
        UnknownNameError: There is no optimizer of that name.

    Example:
        >>> from pretextkit.data._tensor_images import TensorImages
        >>> plan = make_plan(Settings(epochs=10, batch_size=32), TensorImages(torch.rand(100, 1, 28, 28)))
        >>> plan.batch_size, plan.per_epoch, plan.total, plan.warmup
        (32, 3, 30, 2)
    """
    source.check_unsplit()
    recommended = _recommended(task)
    batch_size = _batch_size(settings, source, group.world_size, recommended)
    _check_schedule(settings)
    default_rate = default_learning_rate(settings.optimizer, batch_size)  # also checks the optimizer's name
    if settings.optimizer == "adamw":  # its rate depends on the task, and not on the batch
        default_rate = recommended.learning_rate
    epochs = settings.epochs
    if epochs is None and settings.steps is None:
        epochs = recommended.epochs_for(len(source))
    per_epoch = len(source) // batch_size
    total = settings.steps if epochs is None else epochs * per_epoch
    assert total is not None
    if task is not None:
        check_batch_norm(batch_size // (group.world_size * settings.accumulate), [task], "task")
        _check_synchronized(task, group)
    return Plan(
        batch_size=batch_size,
        learning_rate=default_rate if settings.learning_rate is None else settings.learning_rate,
        per_epoch=per_epoch,
        total=total,
        warmup=math.ceil(settings.warmup * total),
        epochs=epochs,
        weight_decay=default_weight_decay(settings.optimizer)
        if settings.weight_decay is None
        else settings.weight_decay,
    )


def _recommended(task: nn.Module | None) -> Recommended:
    """Return the settings that a pretext task recommends; the general ones for other modules."""
    task = unwrap(task)
    if not isinstance(task, PretextTask):
        return Recommended()
    if not isinstance(task.recommended, Recommended):
        raise OptionError(
            f"{type(task).__name__}.recommended to be a pretextkit.Recommended",
            got=type(task.recommended).__name__,
            fix="Write recommended = pretextkit.Recommended(learning_rate=1e-3) in the class.",
        )
    return task.recommended


def _batch_size(settings: Settings, source: ImageSource, processes: int, recommended: Recommended) -> int:
    count, batch_size = len(source), settings.batch_size
    fix = "It is the number of parts that a batch is computed in."
    parts = processes * check_int("accumulate", settings.accumulate, fix=fix)
    suitable = min(max(recommended.batch_size_for(count), 2 * parts), count)  # one image has no variance in BatchNorm
    suitable -= suitable % parts if suitable >= parts else 0
    if batch_size is None:
        batch_size = suitable
        if source.preferred_batch_size is not None:
            batch_size = min(source.preferred_batch_size, count)
            batch_size -= batch_size % parts if batch_size >= parts else 0
    fix = f"Use batch_size={suitable}."
    if not 1 <= check_int("batch_size", batch_size, at_least=None, fix=fix) <= count:
        raise OptionError(f"batch_size to be between 1 and {count}, the number of images", got=batch_size, fix=fix)
    if batch_size % parts:
        raise OptionError(
            f"a batch_size divisible by processes x accumulate = {processes} x {settings.accumulate} = {parts}",
            got=batch_size,
            fix=f"Use batch_size={max(1, batch_size // parts) * parts}: it counts the images of all processes."
            if parts <= count
            else "Use fewer processes, a smaller accumulate, or more images.",
        )
    return batch_size


def _check_schedule(settings: Settings) -> None:
    if settings.epochs is not None and settings.steps is not None:
        raise OptionError(
            "either epochs or steps",
            got=f"epochs={settings.epochs}, steps={settings.steps}",
            fix="Pass one of them, e.g. epochs=10.",
        )
    for name in ("epochs", "steps"):
        value = getattr(settings, name)
        if value is not None:
            check_int(name, value, fix=f"For example {name}=10.")
    for name in ("learning_rate", "weight_decay", "clip_norm"):
        value = getattr(settings, name)
        if value is not None:
            check_float(name, value, "[0, inf)", fix="Leave it out for the default.")
    check_float(
        "warmup", settings.warmup, "[0, 1]", fix=f"It is a fraction of all steps; the default is {Settings.warmup}."
    )
    check_int("seed", settings.seed, at_least=None, fix=f"The default is {Settings.seed}.")


def _check_synchronized(task: nn.Module, group: ProcessGroup) -> None:
    layers = any(isinstance(module, nn.SyncBatchNorm) for module in task.modules())
    if layers and not group.is_alone and group.device.type != "cuda":
        raise OptionError(
            "SyncBatchNorm on GPUs, the only devices on which torch supports it",
            got=f"device {group.device}",
            fix="Keep BatchNorm, which then uses the images of each process, or use GroupNorm.",
        )


def check_batch_norm(batch_size: int, trained: Iterable[nn.Module], what: str) -> None:
    """Refuse to train BatchNorm on single images, which have no variance.

    Args:
        batch_size: Images in a step.
        trained: Modules that will be in training mode.
        what: Name of the modules in the error.

    Raises:
        OptionError: The batch has one image, and a module has BatchNorm.

    Example:
        >>> check_batch_norm(1, [nn.Linear(2, 2)], "head")
    """
    layers = (layer for module in trained for layer in module.modules())
    if batch_size == 1 and any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in layers):
        raise OptionError(
            f"a batch_size of at least 2, because the {what} has BatchNorm layers",
            got=batch_size,
            fix="Raise batch_size.",
        )


def _built_in(value: Any) -> Any:
    """Convert numbers and strings of other libraries to Python's own, because checkpoints hold no others."""
    if isinstance(value, str):
        return str(value)
    return value.item() if getattr(value, "ndim", None) == 0 else value
