"""What embeddings look like: whether views agree, whether images differ, and in how many directions."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from pretextkit._chunks import row_chunks
from pretextkit._validation import check_rows
from pretextkit.errors import DataError, ShapeError

__all__ = ["alignment", "feature_spread", "rankme", "uniformity"]


@torch.no_grad()
def alignment(z_a: Tensor, z_b: Tensor) -> Tensor:
    """Average the squared distance between the normalized embeddings of two views.

    0 when views agree, 2 when they are unrelated (Wang & Isola 2020, arXiv 2005.10242).

    Args:
        z_a: ``n d``.
        z_b: ``n d``.

    Returns:
        ``()``.

    Raises:
        ShapeError: The embeddings are not two equal ``n d``.
        DataError: They are not of floats.

    Example:
        >>> alignment(torch.eye(3), torch.eye(3))
        tensor(0.)
    """
    if z_a.shape != z_b.shape:
        raise ShapeError(
            "two embeddings of one shape n d",
            got=f"{tuple(z_a.shape)} and {tuple(z_b.shape)}",
            fix="Embed both views of the same images.",
        )
    check_rows(z_a, "embeddings")
    check_rows(z_b, "embeddings")
    difference = nn.functional.normalize(z_a.float()) - nn.functional.normalize(z_b.float())
    return difference.square().sum(1).mean()


@torch.no_grad()
def uniformity(z: Tensor) -> Tensor:
    """Measure how evenly normalized embeddings cover the sphere: 0 when all are one point, about -4 at best.

    The logarithm of the mean of ``exp(-2 |z_i - z_j|^2)`` over pairs (Wang & Isola 2020, arXiv 2005.10242), a few rows
    of their matrix at a time.

    Args:
        z: ``n d``; of a single row there are no pairs, and the result is NaN.

    Returns:
        ``()``.

    Raises:
        ShapeError: The embeddings are not ``n d``.
        DataError: They are not of floats.

    Example:
        >>> round(uniformity(torch.eye(4)).item(), 4)  # every pair at distance sqrt(2): log(exp(-4))
        -4.0
    """
    check_rows(z, "embeddings")
    z = nn.functional.normalize(z.float())
    squares = z.square().sum(1)
    total = z.new_zeros(())
    for chunk in row_chunks(len(z), len(z), z.device):
        with torch.autocast(z.device.type, enabled=False):
            squared = torch.addmm(squares, z[chunk], z.T, alpha=-2).add_(squares[chunk, None])
        close = squared.mul_(-2).exp_()
        close[torch.arange(len(chunk), device=z.device), chunk] = 0
        total += close.sum()
    return (total / (len(z) * (len(z) - 1))).log()


@torch.no_grad()
def feature_spread(features: Tensor) -> Tensor:
    """Measure how far normalized features are from collapse: 0 when all are one point, 1 when they cover the sphere.

    The standard deviation of each coordinate, averaged and multiplied by the square root of ``d``.

    Args:
        features: ``n d``; of a single row there is no spread, 0.

    Returns:
        ``()``.

    Raises:
        ShapeError: The features are not ``n d``.
        DataError: They are not of floats.

    Example:
        >>> feature_spread(torch.ones(8, 4))
        tensor(0.)
    """
    check_rows(features, "features")
    deviations = nn.functional.normalize(features.float()).std(0, correction=0)
    return deviations.mean() * math.sqrt(features.shape[1])


@torch.no_grad()
def rankme(features: Tensor) -> Tensor:
    """Count the directions that features use: 1 when all lie on one line, the smaller of ``n`` and ``d`` at best.

    The exponential of the entropy of the singular values, divided by their sum (RankMe; Garrido et al. 2023, arXiv
    2210.02885, equation 1). It needs no labels, and where it is low so are probes; it grows with ``n``, so that only
    ranks of equally many images compare.

    Args:
        features: ``n d``, at least one row.

    Returns:
        ``()``.

    Raises:
        ShapeError: The features are not ``n d``, or there is none.
        DataError: They are not of floats, or not finite.

    Example:
        >>> rankme(torch.eye(8)), rankme(torch.ones(8, 8))
        (tensor(8.0000), tensor(1.0000))
    """
    check_rows(features, "features")
    if not features.isfinite().all():
        raise DataError("finite features", got="NaN or infinity", fix="Look at the weights that made them.")
    with torch.autocast(features.device.type, enabled=False):
        values = torch.linalg.svdvals(features.float())
        shares = values / values.sum().clamp(min=torch.finfo(values.dtype).tiny)
        rank: Tensor = torch.special.entr(shares).sum().exp()
    return rank
