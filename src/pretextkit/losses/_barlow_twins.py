"""Barlow Twins: the cross-correlation of two views should be the identity."""

from __future__ import annotations

import torch
from torch import Tensor

from pretextkit._validation import check_float
from pretextkit.distributed import gather_rows
from pretextkit.losses._embeddings import check_batch, check_pair, in_full_precision

__all__ = ["barlow_twins_loss"]


def barlow_twins_loss(z_a: Tensor, z_b: Tensor, *, redundancy_weight: float = 5e-3) -> Tensor:
    """Compute the squared distance of the cross-correlation of two views from the identity.

    Each dimension should agree between views (the diagonal), and tell what no other dimension tells (Zbontar et al.
    2021, arXiv 2103.03230). The loss is computed in fp32 (or fp64) even under autocast.

    When :func:`~pretextkit.functional.pretrain` runs on several processes, means, deviations and correlations are those
    of the full batch, and so is the gradient. lightly standardizes the rows of each process by themselves.

    Args:
        z_a: ``n d``, embeddings of one view; standardized inside the function.
        z_b: ``n d``, embeddings of the other view; row ``i`` shows the same image as row ``i`` of ``z_a``.
        redundancy_weight: Weight of the terms off the diagonal, lambda in the paper.

    Returns:
        ``()``, a sum over the ``d x d`` correlations.

    Raises:
        ShapeError: The embeddings do not have the same shape ``n d``, or there is a single pair.
        DataError: The embeddings are not of a floating-point dtype.
        OptionError: The weight is negative.

    Example:
        >>> z = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
        >>> barlow_twins_loss(z, -z)  # 2 (1 + 1)^2, less the constant below the deviations
        tensor(7.9999)
    """
    check_pair(z_a, z_b)
    check_batch(z_a, "correlations are taken over images")
    weight = check_float("redundancy_weight", redundancy_weight, "[0, inf)", of=barlow_twins_loss)
    with torch.autocast(z_a.device.type, enabled=False):
        a, b = (_standardized(gather_rows(in_full_precision(z))) for z in (z_a, z_b))
        correlations = a.T @ b / len(a)
        diagonal = torch.eye(len(correlations), device=a.device, dtype=torch.bool)
        squares = (correlations - diagonal.to(a.dtype)).square()
        return torch.where(diagonal, squares, weight * squares).sum()


def _standardized(z: Tensor) -> Tensor:
    """Standardize the columns of ``n d``, as BatchNorm does."""
    variance, mean = torch.var_mean(z, 0, correction=0)
    return (z - mean) * (variance + 1e-5).rsqrt()
