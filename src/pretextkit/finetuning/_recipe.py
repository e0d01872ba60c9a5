"""Settings of a fine-tuning, which follow from the number of labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from torch import nn

from pretextkit._validation import check_callable, check_int
from pretextkit.errors import OptionError
from pretextkit.finetuning._averaging import AverageChoice
from pretextkit.finetuning._layers import HeadLayers
from pretextkit.finetuning._trained_modules import Trainable
from pretextkit.training._settings import Settings
from pretextkit.views import Augmentation, LightAugmentation

__all__ = [
    "AugmentationChoice",
    "FinetuneSettings",
    "Recipe",
    "default_learning_rate",
    "default_steps",
    "divide_evenly",
    "resolve_augmentation",
    "resolve_settings",
]

AugmentationChoice = Augmentation | Literal["auto"] | None
"""Function from a batch and a generator to the augmented batch, ``"auto"`` for light crops and colors, or None."""

FEWEST_STEPS, MOST_STEPS = 600, 4000
FEWEST_STEPS_FROM_RANDOM, BATCH_FROM_RANDOM = 3000, 32
"""The same with random weights, which learn features from the labels alone, and their batch of few labels."""
PASSES = 20
"""Passes over the labels, where these are more than the fewest steps and fewer than the most."""


@dataclass(frozen=True)
class Recipe:
    """Options of a fine-tuning that shape the training, as the call gave them."""

    trainable: Trainable = "all"
    layers: HeadLayers = "auto"
    augment: AugmentationChoice = "auto"
    layer_decay: float = 1.0
    label_smoothing: float = 0.0
    average: AverageChoice = 1.0


@dataclass(frozen=True)
class FinetuneSettings:
    """Settings of a fine-tuning, with the values that stood for those that the call left out.

    Example:
        >>> print(FinetuneSettings("all weights", 600, 61, "adamw", 0.001, "light", "logistic regression"))
        all weights, 600 steps of 61, learning rate 0.001, head from logistic regression
    """

    trained: str
    """Parts that train, such as all weights, the head, or the head and named modules."""
    steps: int
    """Optimizer steps, without those of the head alone."""
    batch_size: int
    """Images in a step."""
    optimizer: str
    """Name of the optimizer."""
    learning_rate: float
    """Highest learning rate."""
    augmentation: str | None
    """Name of the augmentation; None without."""
    head_start: str
    """Where the head begins, such as logistic regression, a number of steps on features, or its own weights."""
    layers: str = "last"
    """Layers that the head reads, each with its grid; ``last`` is the output of the backbone."""
    average: float = 1.0
    """Part of the trained weights in the average with the weights before the training."""

    def __str__(self) -> str:
        steps = f"{self.steps} step{'' if self.steps == 1 else 's'} of {self.batch_size}, "
        optimizer = "" if self.optimizer == "adamw" else f"{self.optimizer}, "
        run = f"{steps}{optimizer}learning rate {self.learning_rate:g}, " if self.steps else ""
        layers = "" if self.layers == "last" else f" on {self.layers}"
        parts = f", average of {1 - self.average:.0%} first and {self.average:.0%} trained weights"
        return f"{self.trained}, {run}head{layers} from {self.head_start}{parts if self.average < 1 else ''}"


def resolve_augmentation(augment: AugmentationChoice, trained: Sequence[nn.Module]) -> Augmentation | None:
    """Return the augmentation; ``"auto"`` is light where images train, and none where only a head trains.

    Raises:
        OptionError: It is something else.

    Example:
        >>> resolve_augmentation("auto", []) is None
        True
    """
    if augment is None or augment == "auto":
        return LightAugmentation() if augment and trained else None
    if isinstance(augment, str):
        fix = "Pass a function of images and a generator, or None for no augmentation."
        raise OptionError("augment to be a function, 'auto' or None", got=repr(augment), fix=fix)
    check_callable("augment", augment, "images", "generator")
    return augment


def divide_evenly(count: int, batch_size: int | None, *, from_random: bool = False) -> int:
    """Return the largest batch, up to ``batch_size``, that leaves the fewest images over.

    Images left over are fewer than the batches; another order in the next epoch reaches them.

    Args:
        count: Number of images.
        batch_size: Most images in a batch; by default 64, and more for many images.
        from_random: Whether they train random weights, by default in smaller batches of few images.

    Example:
        >>> divide_evenly(100, 64), divide_evenly(732, None), divide_evenly(3, 2)
        (50, 61, 2)
        >>> divide_evenly(732, None, from_random=True)
        31
    """
    if batch_size is None:
        batch_size = 64 if count < 10_000 else 128 if count < 40_000 else 256
        batch_size = BATCH_FROM_RANDOM if from_random and count < 1000 else batch_size
    most = min(batch_size, count)
    batches = -(-count // most)
    return max(min(2, most), count // batches)


def default_steps(count: int, batch_size: int, *, from_random: bool = False) -> int:
    """Return twenty passes over ``count`` images, but at least 600, or 3,000 from random weights, and at most 4,000.

    Example:
        >>> default_steps(100, 50), default_steps(5000, 63), default_steps(10**6, 256)
        (600, 1580, 4000)
        >>> default_steps(100, 25, from_random=True)
        3000
    """
    fewest = FEWEST_STEPS_FROM_RANDOM if from_random else FEWEST_STEPS
    return min(max(fewest, PASSES * (count // batch_size)), MOST_STEPS)


def default_learning_rate(trained: Sequence[nn.Module], *, from_random: bool = False) -> float:
    """Return AdamW's learning rate: 0.003 for random weights with BatchNorm, which bears it, otherwise 0.001.

    At a higher rate, labels overwrite pretrained features.

    Example:
        >>> default_learning_rate([nn.BatchNorm2d(8)]), default_learning_rate([nn.BatchNorm2d(8)], from_random=True)
        (0.001, 0.003)
        >>> default_learning_rate([nn.LayerNorm(8)], from_random=True)
        0.001
    """
    modules = (module for each in trained for module in each.modules())
    with_norm = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in modules)
    return 0.003 if with_norm and from_random else 0.001


def resolve_settings(
    settings: Settings, count: int, trained: Sequence[nn.Module], *, from_random: bool = False
) -> Settings:
    """Fill in what a call left out.

    Args:
        settings: Settings of the call.
        count: Number of labeled images, which decides the batch and the steps.
        trained: Modules of the backbone that train, which decide the learning rate of AdamW.
        from_random: Whether they train from random weights, which needs more steps, and smaller and faster ones.

    Raises:
        OptionError: The batch size is no integer >= 1, or both epochs and steps are given.
    """
    if settings.batch_size is not None:
        check_int("batch_size", settings.batch_size, fix="Leave it out for the default.")
    if settings.epochs is not None and settings.steps is not None:
        got = f"epochs={settings.epochs}, steps={settings.steps}"
        raise OptionError("at most one of epochs and steps", got=got, fix="Leave one of them out, or both.")
    batch_size = divide_evenly(count, settings.batch_size, from_random=from_random)
    given = settings.epochs is not None or settings.steps is not None
    steps = settings.steps if given else default_steps(count, batch_size, from_random=from_random)
    if settings.learning_rate is None and settings.optimizer == "adamw":
        settings = replace(settings, learning_rate=default_learning_rate(trained, from_random=from_random))
    return replace(settings, batch_size=batch_size, steps=steps)
