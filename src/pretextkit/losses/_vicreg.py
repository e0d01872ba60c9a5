"""VICReg: invariance, variance and covariance of embeddings."""

from __future__ import annotations

import torch
from torch import Tensor

from pretextkit._validation import check_float
from pretextkit.distributed import gather_rows
from pretextkit.losses._embeddings import check_batch, check_pair, in_full_precision

__all__ = ["vicreg_loss"]


def vicreg_loss(
    z_a: Tensor,
    z_b: Tensor,
    *,
    invariance_weight: float = 25.0,
    variance_weight: float = 25.0,
    covariance_weight: float = 1.0,
) -> Tensor:
    """Compute the distance of two views, the lack of variance of each, and the covariance of their dimensions.

    Views of an image should be equal, every dimension should have a standard deviation of at least 1 over the images,
    and no two dimensions should covary (Bardes et al. 2022, arXiv 2105.04906). The loss is computed in fp32 (or fp64)
    even under autocast, because covariances overflow in half precision.

    When :func:`~pretextkit.functional.pretrain` runs on several processes, variances and covariances are those of the
    full batch, and so is the gradient.

    Args:
        z_a: ``n d``, embeddings of one view, as they are: their scale matters.
        z_b: ``n d``, embeddings of the other view; row ``i`` shows the same image as row ``i`` of ``z_a``.
        invariance_weight: Weight of the mean squared difference of the views.
        variance_weight: Weight of the lack of standard deviation, averaged over dimensions and views.
        covariance_weight: Weight of the squared covariances, summed over dimensions and views, divided by ``d``.

    Returns:
        ``()``, the weighted sum.

    Raises:
        ShapeError: The embeddings do not have the same shape ``n d``, or there is a single pair.
        DataError: The embeddings are not of a floating-point dtype.
        OptionError: A weight is negative.

    Example:
        >>> z = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
        >>> vicreg_loss(z, -z)  # 25 times a squared difference of 4
        tensor(100.)
    """
    check_pair(z_a, z_b)
    check_batch(z_a, "variances are taken over images")
    weights = {
        "invariance_weight": invariance_weight,
        "variance_weight": variance_weight,
        "covariance_weight": covariance_weight,
    }
    invariant, varied, covaried = (check_float(key, each, "[0, inf)", of=vicreg_loss) for key, each in weights.items())
    with torch.autocast(z_a.device.type, enabled=False):
        a, b = (gather_rows(in_full_precision(z)) for z in (z_a, z_b))
        (lack_a, covariance_a), (lack_b, covariance_b) = _variance_and_covariance(a), _variance_and_covariance(b)
        loss = invariant * (a - b).square().mean() + varied * (lack_a + lack_b) / 2
        return loss + covaried * (covariance_a + covariance_b)


def _variance_and_covariance(z: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the lack of standard deviation and the squared covariances of ``n d``."""
    centered = z - z.mean(0)
    covariances = centered.T @ centered / (len(z) - 1)
    variances = covariances.diagonal()
    lack = (1 - (variances + 1e-4).sqrt()).relu().mean()
    off_diagonal = covariances - torch.diag_embed(variances)
    return lack, off_diagonal.square().sum() / z.shape[1]
