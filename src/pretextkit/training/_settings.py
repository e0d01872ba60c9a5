"""How to train: the options of a run, and the defaults that depend on its data."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import nn

from pretextkit._validation import check_float, check_int
from pretextkit.data._sources import ImageSource, LoaderImages
from pretextkit.errors import OptionError
from pretextkit.training._hardware import Precision
from pretextkit.training._optim import OptimizerName, default_learning_rate

__all__ = ["Plan", "Settings", "check_batch_norm", "make_plan"]


@dataclass(frozen=True)
class Settings:
    """How to train; ``None`` stands for a default that depends on the data or the optimizer."""

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
    """What the settings mean for given data."""

    batch_size: int
    """Images in a step, of all processes together."""
    learning_rate: float
    per_epoch: int
    """Steps of an epoch: a last partial batch is left to the next shuffle."""
    total: int
    """Steps of the run."""
    warmup: int
    """Steps in which the learning rate rises."""


def make_plan(settings: Settings, source: ImageSource, processes: int = 1) -> Plan:
    """Put what depends on the data in place of the defaults.

    Args:
        settings: How to train.
        source: The images.
        processes: How many share each batch.

    Raises:
        OptionError: A setting makes no sense, by itself or for this many images.
        UnknownNameError: There is no optimizer of that name.

    Example:
        >>> from pretextkit.data._sources import TensorImages
        >>> make_plan(Settings(epochs=10, batch_size=32), TensorImages(torch.rand(100, 1, 28, 28)))
        Plan(batch_size=32, learning_rate=0.001, per_epoch=3, total=30, warmup=2)
    """
    count = len(source)
    batch_size = settings.batch_size
    fix = "It is the number of parts that a batch is computed in."
    parts = processes * check_int("accumulate", settings.accumulate, fix=fix)
    if batch_size is None:
        own = source.batch_size if isinstance(source, LoaderImages) else None
        batch_size = min(own or 256, count)
        batch_size -= batch_size % parts if batch_size >= parts else 0
    fix = f"Use batch_size={min(256, count)}."
    if not 1 <= check_int("batch_size", batch_size, at_least=None, fix=fix) <= count:
        raise OptionError(f"a batch size of 1 to {count}, as there are {count} images", got=batch_size, fix=fix)
    if batch_size % parts:
        raise OptionError(
            f"a batch size that {processes} x {settings.accumulate} parts (processes x accumulate) share evenly",
            got=batch_size,
            fix=f"Use batch_size={max(1, batch_size // parts) * parts}: it counts the images of all processes.",
        )
    if (settings.epochs is None) == (settings.steps is None):
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
    check_float("warmup", settings.warmup, "[0, 1]", fix="It is a share of all steps; the default is 0.05.")
    check_int("seed", settings.seed, at_least=None, fix="The default is 0.")
    default_rate = default_learning_rate(settings.optimizer, batch_size)  # knows the optimizers: named here or nowhere
    per_epoch = count // batch_size
    total = settings.steps if settings.steps is not None else (settings.epochs or 0) * per_epoch
    return Plan(
        batch_size=batch_size,
        learning_rate=default_rate if settings.learning_rate is None else settings.learning_rate,
        per_epoch=per_epoch,
        total=total,
        warmup=math.ceil(settings.warmup * total),
    )


def check_batch_norm(batch_size: int, trained: Iterable[nn.Module], what: str) -> None:
    """Refuse to train BatchNorm on single images, which have no spread.

    Args:
        batch_size: Images in a step.
        trained: Modules that will be in training mode.
        what: What an error calls them.

    Raises:
        OptionError: The batch has one image, and BatchNorm is among them.

    Example:
        >>> check_batch_norm(1, [nn.Linear(2, 2)], "head")
    """
    layers = (layer for module in trained for layer in module.modules())
    if batch_size == 1 and any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in layers):
        raise OptionError(
            f"a batch of at least 2, as the {what} has BatchNorm layers", got=batch_size, fix="Raise batch_size."
        )


def _built_in(value: Any) -> Any:
    """Turn another library's number or string, which no checkpoint could be read with, into Python's own."""
    if isinstance(value, str):
        return str(value)
    return value.item() if getattr(value, "ndim", None) == 0 else value
