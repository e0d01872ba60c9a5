"""VISReg: how far embeddings are from a standard Gaussian in center, scale and shape."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pretextkit._validation import check_float, check_rows
from pretextkit.distributed import gather_rows
from pretextkit.losses._embeddings import in_full_precision
from pretextkit.losses._sigreg import check_directions

__all__ = ["visreg_loss"]


def visreg_loss(z: Tensor, directions: Tensor, *, shape_weight: float = 1.0) -> Tensor:
    """Compute the distance of embeddings from a standard Gaussian in center, scale and shape.

    The squared means of the dimensions, the squared differences of their deviations from 1, and the sliced Wasserstein
    distance of the standardized embeddings from a Gaussian (Wu et al. 2026, arXiv 2606.02572). Unlike that of
    :func:`sigreg_loss`, which it can replace, the gradient does not vanish near a collapse. The loss is computed in
    fp32 (or fp64) even under autocast, and for the full batch of all processes.

    Args:
        z: ``n d``, embeddings as they are: their scale matters.
        directions: ``d s``, random directions, of any length; the same on all processes.
        shape_weight: Weight of the distance in shape.

    Returns:
        ``()``; nearly 0 for a standard Gaussian of many rows.

    Raises:
        ShapeError: The embeddings are not ``n d``, or the directions not ``d s``.
        DataError: The embeddings are not of a floating-point dtype.
        OptionError: The weight is negative.

    Example:
        >>> visreg_loss(torch.tensor([[-1.0], [1.0]]), torch.eye(1), shape_weight=0.0)  # mean 0, deviation 1
        tensor(0.)
    """
    check_rows(z, "embeddings")
    check_directions(directions, z.shape[1])
    shape_weight = check_float("shape_weight", shape_weight, "[0, inf)", of=visreg_loss)
    with torch.autocast(z.device.type, enabled=False):
        z = gather_rows(in_full_precision(z))
        mean, deviation = z.mean(0), z.std(0, correction=0)
        shape = (z - mean) / (deviation.detach() + 1e-4)
        slices = (shape @ nn.functional.normalize(directions.to(z.dtype), dim=0)).sort(0).values
        quantiles = torch.special.ndtri(torch.arange(1, len(z) + 1, device=z.device, dtype=z.dtype) / (len(z) + 1))
        wasserstein = (slices - quantiles[:, None]).square().mean()
        loss: Tensor = mean.square().mean() + (1 - deviation).square().mean() + shape_weight * wasserstein
        return loss
