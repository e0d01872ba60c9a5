"""Noticing that features collapse while pretraining runs, and not after a day of it."""

from __future__ import annotations

import math
import warnings

import torch
from torch import Tensor, nn

from pretextkit._color import as_float
from pretextkit._evaluation_mode import evaluation_mode
from pretextkit.contracts import Backbone
from pretextkit.errors import CollapseWarning
from pretextkit.losses import feature_spread, rankme

__all__ = ["batch_norm_warmed_up", "feature_quality", "monitor_batch_size", "warn_of_collapse"]

FEWEST, MOST = 32, 256
"""Images that a collapse is told from; few have few directions, whatever the backbone."""

LOW_SPREAD, LOW_RANK = 0.01, 1.5
"""Random weights give spreads above 0.08 and ranks above 19, on 256 images of noise as well."""

SETTLED = 50
"""Batches after which less than a hundredth is left of the statistics that BatchNorm begins with."""


def monitor_batch_size(count: int) -> int:
    """Choose how many of ``count`` images to look at after each epoch: a forward pass of a thirtieth costs a hundredth.

    Example:
        >>> monitor_batch_size(60_000), monitor_batch_size(3_000), monitor_batch_size(100)
        (256, 100, 32)
    """
    return max(FEWEST, min(MOST, count // 30))


def feature_quality(backbone: Backbone, images: Tensor) -> tuple[Tensor, dict[str, float]]:
    """Measure the spread and the RankMe of a backbone's features, in evaluation mode.

    Args:
        backbone: Left as it was.
        images: ``b c h w``.

    Returns:
        The features ``b d``, and both measures by name.

    Example:
        >>> from pretextkit.testing import TinyBackbone
        >>> features, quality = feature_quality(TinyBackbone(), torch.rand(8, 3, 16, 16))
        >>> features.shape, sorted(quality)
        (torch.Size([8, 64]), ['rankme', 'spread'])
    """
    with evaluation_mode(backbone):
        features = backbone(as_float(images)).float()
    if not features.isfinite().all():  # the loop will say so; singular values there are none
        return features, {"spread": math.nan, "rankme": math.nan}
    return features, {"spread": feature_spread(features).item(), "rankme": rankme(features).item()}


def batch_norm_warmed_up(backbone: nn.Module) -> bool:
    """Tell whether features in evaluation mode say anything about training yet.

    BatchNorm's running statistics begin with mean 0 and variance 1, and take a tenth of the difference from each batch.
    Until they are those of the features, all images look nearly the same in evaluation mode, however well they differ
    in training mode.

    Example:
        >>> batch_norm_warmed_up(nn.Conv2d(3, 8, 3)), batch_norm_warmed_up(nn.BatchNorm2d(8))
        (True, False)
    """
    norms = (module for module in backbone.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm))
    return all(norm.num_batches_tracked is None or norm.num_batches_tracked >= SETTLED for norm in norms)


def warn_of_collapse(images: Tensor, features: Tensor, spread: float, rank: float) -> bool:
    """Warn with a :class:`~pretextkit.errors.CollapseWarning` if features of different images hardly differ.

    Args:
        images: ``b c h w``, what the features are of.
        features: ``b d``.
        spread: That of the features.
        rank: Their RankMe.

    Returns:
        Whether it warned.

    Example:
        >>> warn_of_collapse(torch.rand(64, 3, 4, 4), torch.eye(64), 1.0, 64.0)
        False
    """
    count = len(features)
    low = spread < LOW_SPREAD or rank < LOW_RANK
    if not low or count < FEWEST or not _differ(as_float(images[:count])):
        return False
    if features.abs().amax() < 1e-6:
        what = "all of them are 0"
        why = "Units that have died give no gradient: lower learning_rate, lengthen warmup, or set clip_norm=1.0."
    elif spread < 0.5:  # features that differ have a spread near 1, whether in one direction or in many
        what = "every image has nearly the same"
        why = (
            "The loss is then lowest without looking at the image: it needs something that keeps images apart, such as "
            "negatives, a variance term, or a stopped gradient behind a predictor. If it has that, lower learning_rate."
        )
    else:
        what = "they differ along one direction only"
        why = (
            "The loss needs no second direction: give its head more outputs, add a term that decorrelates features, or "
            "make the task harder."
        )
    warnings.warn(
        f"The backbone's features have collapsed: {what} (on {count} training images their spread is {spread:.2g}, 0 "
        f"being a point, and their RankMe {rank:.2f} of at most {min(features.shape)}). {why}",
        CollapseWarning,
        stacklevel=2,
    )
    return True


def _differ(images: Tensor) -> bool:
    """Tell whether there is anything in the images to tell apart."""
    return bool(torch.std(images, 0, correction=0).amax() > 1 / 255)
