"""Average of the weights before and after a fine-tuning (Wortsman et al. 2022, arXiv 2109.01903)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pretextkit._color import as_float
from pretextkit._evaluation_mode import evaluation_mode
from pretextkit._modules import module_device
from pretextkit._recipes import training_of
from pretextkit._seeding import derived_generator, derived_seed, seeded
from pretextkit._starting_point import starting_point
from pretextkit._validation import check_float
from pretextkit.data._sources import ImageSource
from pretextkit.errors import OptionError
from pretextkit.inference._classifier import Classifier

__all__ = [
    "NEAREST",
    "AverageChoice",
    "average_weights",
    "check_average",
    "is_pretrained",
    "mix_weights",
    "state_of",
    "training_loss",
]

AverageChoice = float | Literal["auto"]
"""Part of the trained weights in the average, or ``"auto"``."""

NEAREST, NEAR, FAR = 0.25, 0.5, 0.75
"""Parts of the trained weights in the averages of a pretrained backbone; the first is that of few labels."""

TOLERANCE = 1.2
"""Largest log loss of the nearer average on the training images, in units of that of the trained weights."""

IMAGES = 2048
"""Training images on which averages are compared, and BatchNorm is measured, at most."""

FEWEST_IMAGES = 100
"""Training images on which BatchNorm is measured, at least; of fewer, its statistics are averaged like weights."""


def check_average(average: Any) -> AverageChoice:
    """Return a part from 0 to 1, or ``"auto"``.

    Raises:
        OptionError: It is something else.
    """
    fix = "1 keeps the trained weights, 0.5 is the mean of both."
    if isinstance(average, str):
        if average == "auto":
            return "auto"
        raise OptionError("average to be a number or 'auto'", got=repr(average), fix=fix)
    return check_float("average", average, "[0, 1]", fix=fix)


def state_of(module: nn.Module) -> dict[str, Tensor]:
    """Copy the weights and buffers of a module."""
    return {name: values.clone() for name, values in module.state_dict().items()}


@torch.no_grad()
def mix_weights(module: nn.Module, start: Mapping[str, Tensor], end: Mapping[str, Tensor], part: float) -> None:
    """Set the weights and the statistics of BatchNorm to ``(1 - part) * start + part * end``.

    Values that did not change stay bit-identical; counts are those of the end.

    Example:
        >>> module = nn.BatchNorm1d(1)
        >>> start, end = {"running_mean": torch.tensor([0.0])}, {"running_mean": torch.tensor([1.0])}
        >>> mix_weights(module, start, end, 0.75)
        >>> module.running_mean
        tensor([0.7500])
    """
    own = module.state_dict()
    for name, values in end.items():
        mixed = values.is_floating_point() and not torch.equal(start[name], values)
        own[name].copy_(torch.lerp(start[name], values, part) if mixed else values)


def is_pretrained(backbone: nn.Module) -> bool:
    """Whether a backbone was trained before, as its record, its origin or its BatchNorm layers say.

    Example:
        >>> from pretextkit.models import SmallCNN
        >>> backbone = SmallCNN()
        >>> before = is_pretrained(backbone)
        >>> _ = backbone.train()(torch.rand(2, 3, 32, 32))
        >>> before, is_pretrained(backbone)
        (False, True)
    """
    if training_of(backbone) or starting_point(backbone):
        return True
    counts = (getattr(module, "num_batches_tracked", None) for module in backbone.modules())
    return any(isinstance(count, Tensor) and int(count) > 0 for count in counts)


def average_weights(
    classifier: Classifier,
    start: Mapping[str, Tensor],
    source: ImageSource,
    average: AverageChoice,
    seed: int,
    batch_size: int = 64,
) -> float:
    """Average the weights of a pretrained classifier before and after its training.

    Few labels are fitted in many ways. Of these, weights close to the pretrained ones classify other images best.
    Averaged weights give other features than either, so BatchNorm measures them again, if there are a hundred images
    (Izmailov et al. 2018, arXiv 1803.05407).

    Args:
        classifier: The trained classifier.
        start: Its weights before the training.
        source: Its training images.
        average: Part of the trained weights. ``"auto"`` is 0.5 if this average fits the training images as well as the
            trained weights, and otherwise 0.75.
        seed: Seed of the choice of images.
        batch_size: Images in a batch of the training.

    Returns:
        The part of the trained weights in the average.
    """
    end = state_of(classifier)
    if average == "auto":
        most = TOLERANCE * training_loss(classifier, source, seed)
        _average(classifier, start, end, NEAR, source, batch_size, seed)
        if training_loss(classifier, source, seed) <= most:
            return NEAR
        average = FAR
    _average(classifier, start, end, average, source, batch_size, seed)
    return average


def _average(
    classifier: Classifier,
    start: Mapping[str, Tensor],
    end: Mapping[str, Tensor],
    part: float,
    source: ImageSource,
    batch_size: int,
    seed: int,
) -> None:
    """Mix the weights, and measure BatchNorm where its statistics changed; those of either end are known.

    Few images give statistics of few images. Those of the start have seen many, so the mixed ones are better then.
    """
    mix_weights(classifier, start, end, part)
    changed = {name for name, values in end.items() if not torch.equal(start[name], values)}
    norms = [
        module
        for name, module in classifier.named_modules()
        if isinstance(module, _BatchNorm) and f"{name}.running_mean" in changed
    ]
    if norms and 0 < part < 1 and len(source) >= FEWEST_IMAGES:
        measure_statistics(classifier, norms, source, batch_size, seed)


@torch.no_grad()
def measure_statistics(
    classifier: Classifier, norms: Sequence[_BatchNorm], source: ImageSource, batch_size: int, seed: int
) -> None:
    """Set the statistics of BatchNorm layers to their mean over batches of training images, without augmentation."""
    batches = torch.tensor_split(_some_rows(source, seed), max(1, min(len(source), IMAGES) // batch_size))
    momenta = [norm.momentum for norm in norms]
    try:
        with seeded(derived_seed(seed, "average")), evaluation_mode(classifier):  # puts the old statistics back
            for norm in norms:
                norm.train().reset_running_stats()
                norm.momentum = None  # a cumulative mean
            for images, _ in source.batches(batches):
                classifier(as_float(images.to(module_device(classifier))))
            measured = [state_of(norm) for norm in norms]
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
    for norm, found in zip(norms, measured, strict=True):
        own = norm.state_dict()
        for name in ("running_mean", "running_var"):
            own[name].copy_(found[name])


def training_loss(classifier: Classifier, source: ImageSource, seed: int) -> float:
    """Return the mean log loss on training images, without augmentation."""
    device, losses = module_device(classifier), []
    with seeded(derived_seed(seed, "average")), evaluation_mode(classifier):  # a loader draws from the global generator
        for images, labels in source.batches(torch.split(_some_rows(source, seed), 256)):
            assert labels is not None
            logits = classifier(as_float(images.to(device))).float().cpu()
            losses.append(nn.functional.cross_entropy(logits, labels, reduction="none"))
    return torch.cat(losses).mean().item()


def _some_rows(source: ImageSource, seed: int) -> Tensor:
    return torch.randperm(len(source), generator=derived_generator(seed, "average"))[:IMAGES]
