"""Detect collapsed features during pretraining."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from pretextkit._color import as_float
from pretextkit._evaluation_mode import evaluation_mode
from pretextkit._validation import check_features
from pretextkit.contracts import Backbone
from pretextkit.errors import CollapseWarning
from pretextkit.losses import feature_spread, rankme
from pretextkit.training._monitors import Finding

__all__ = ["batch_norm_warmed_up", "detect_collapse", "feature_quality", "monitor_batch_size"]

FEWEST, MOST = 32, 256
"""Fewest and most images on which features are measured; few images have few directions with any backbone."""

LOW_SPREAD, LOW_RANK = 0.01, 1.5
"""Random weights give spreads above 0.08 and ranks above 19, even on 256 images of noise."""

WARM_BATCHES = 50
"""Batches after which less than 1 % is left of BatchNorm's initial statistics."""


def monitor_batch_size(count: int) -> int:
    """Choose how many of ``count`` images to measure after each epoch.

    A forward pass of a thirtieth of the images takes a hundredth of the epoch's time.

    Example:
        >>> monitor_batch_size(60_000), monitor_batch_size(3_000), monitor_batch_size(100)
        (256, 100, 32)
    """
    return max(FEWEST, min(MOST, count // 30))


def feature_quality(backbone: Backbone, images: Tensor) -> tuple[Tensor, dict[str, float]]:
    """Measure the spread and the RankMe of a backbone's features, in evaluation mode.

    Args:
        backbone: The backbone, whose state is restored.
        images: ``b c h w``.

    Returns:
        The features ``b d``, and both measures by name; NaN if a feature is not finite.

    Example:
        >>> from pretextkit.testing import TinyBackbone
        >>> features, quality = feature_quality(TinyBackbone(), torch.rand(8, 3, 16, 16))
        >>> features.shape, sorted(quality)
        (torch.Size([8, 64]), ['rankme', 'spread'])
    """
    with evaluation_mode(backbone):
        features = check_features(backbone(as_float(images)), len(images), "the backbone", finite=False).float()
    if not features.isfinite().all():  # the loop raises; such a matrix has no singular values
        return features, {"spread": math.nan, "rankme": math.nan}
    return features, {"spread": feature_spread(features).item(), "rankme": rankme(features).item()}


def batch_norm_warmed_up(backbone: nn.Module) -> bool:
    """Return whether BatchNorm's running statistics are close to those of the features.

    They start with mean 0 and variance 1, and move by a tenth of the difference in each batch. Until then, all images
    have nearly the same features in evaluation mode, even if they differ in training mode.

    Example:
        >>> batch_norm_warmed_up(nn.Conv2d(3, 8, 3)), batch_norm_warmed_up(nn.BatchNorm2d(8))
        (True, False)
    """
    norms = (module for module in backbone.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm))
    return all(norm.num_batches_tracked is None or norm.num_batches_tracked >= WARM_BATCHES for norm in norms)


def detect_collapse(images: Tensor, features: Tensor, spread: float, rank: float) -> list[Finding]:
    """Report a collapse if the features of different images hardly differ.

    Args:
        images: ``b c h w``.
        features: Features ``b d`` of the images.
        spread: Spread of the features.
        rank: RankMe of the features.

    Returns:
        The collapse and its cause, or an empty list.

    Example:
        >>> detect_collapse(torch.rand(64, 3, 4, 4), torch.eye(64), 1.0, 64.0)
        []
    """
    count = len(features)
    low = spread < LOW_SPREAD or rank < LOW_RANK
    if not low or count < FEWEST or not _differ(as_float(images[:count])):
        return []
    if features.abs().amax() < 1e-6:
        what = "all features are 0"
        why = "Dead units give no gradient: lower learning_rate, lengthen warmup, or set clip_norm=1.0."
    elif spread < 0.5:  # features that differ have a spread near 1, along one direction or many
        what = "all images have nearly the same features"
        why = (
            "The loss is then lowest without looking at the images: it needs a term that keeps images apart, such as "
            "negatives, a variance term, clusters of equal size, a centered teacher, or a stop-gradient with a "
            "predictor. If it has one, lower learning_rate."
        )
    else:
        what = "features differ along one direction only"
        why = (
            "The loss needs no second direction: give its head more outputs, add a term that decorrelates features, or "
            "make the task harder."
        )
    text = (
        f"The backbone's features have collapsed: {what} (on {count} training images, their spread is {spread:.2g}, "
        f"where 0 is a single point, and their RankMe {rank:.2f} of at most {min(features.shape)}). {why}"
    )
    return [Finding("collapse", text, CollapseWarning)]


def _differ(images: Tensor) -> bool:
    """Whether the images differ from each other."""
    return bool(torch.std(images, 0, correction=0).amax() > 1 / 255)
