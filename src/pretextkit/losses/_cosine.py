"""Negative cosine similarity, the loss of BYOL and SimSiam."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pretextkit.losses._embeddings import check_pair, in_full_precision

__all__ = ["negative_cosine_similarity"]


def negative_cosine_similarity(predictions: Tensor, targets: Tensor) -> Tensor:
    """Compute the mean negative cosine of predictions and their targets.

    The loss of SimSiam (Chen & He 2020, arXiv 2011.10566). The squared distance of BYOL (Grill et al. 2020, arXiv
    2006.07733) is twice this loss, plus 2. The loss is computed in fp32 (or fp64) even under autocast.

    Args:
        predictions: ``n d``.
        targets: ``n d``. Detach targets: with a gradient, both sides meet in one point.

    Returns:
        ``()``, from -1 (same directions) to 1.

    Raises:
        ShapeError: The embeddings do not have the same shape ``n d``.
        DataError: The embeddings are not of a floating-point dtype.

    Example:
        >>> negative_cosine_similarity(torch.eye(2), torch.ones(2, 2))  # -cos 45°
        tensor(-0.7071)
    """
    check_pair(predictions, targets)
    with torch.autocast(predictions.device.type, enabled=False):
        p, t = (nn.functional.normalize(in_full_precision(z)) for z in (predictions, targets))
        return -(p * t).sum(1).mean()
