"""What embeddings look like: whether views agree, whether images differ, and in how many directions."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from pretextkit.errors import ShapeError
from pretextkit.losses.nt_xent import row_chunks

__all__ = ["alignment", "feature_spread", "rankme", "uniformity"]


@torch.no_grad()
def alignment(z_a: Tensor, z_b: Tensor) -> Tensor:
    """Average the squared distance between the normalised embeddings of two views.

    0 when views agree, 2 when they are unrelated (Wang & Isola 2020, arXiv 2005.10242).

    Args:
        z_a: ``n d``.
        z_b: ``n d``.

    Returns:
        ``()``.

    Example:
        >>> alignment(torch.eye(3), torch.eye(3))
        tensor(0.)
    """
    difference = nn.functional.normalize(z_a.float()) - nn.functional.normalize(z_b.float())
    return difference.square().sum(1).mean()


@torch.no_grad()
def uniformity(z: Tensor) -> Tensor:
    """Measure how evenly normalised embeddings cover the sphere: 0 when all are one point, about -4 at best.

    The logarithm of the mean of ``exp(-2 |z_i - z_j|^2)`` over pairs (Wang & Isola 2020, arXiv 2005.10242), a few rows
    of their matrix at a time.

    Args:
        z: ``n d``, at least two rows.

    Returns:
        ``()``.

    Example:
        >>> round(uniformity(torch.eye(4)).item(), 4)  # every pair at distance sqrt(2): log(exp(-4))
        -4.0
    """
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
    """Measure how far normalised features are from collapse: 0 when all are one point, 1 when they cover the sphere.

    The standard deviation of each coordinate, averaged and multiplied by the square root of ``d``.

    Args:
        features: ``n d``, at least two rows.

    Returns:
        ``()``.

    Example:
        >>> feature_spread(torch.ones(8, 4))
        tensor(0.)
    """
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

    Example:
        >>> rankme(torch.eye(8)), rankme(torch.ones(8, 8))
        (tensor(8.0000), tensor(1.0000))
    """
    if features.ndim != 2 or not features.numel():
        raise ShapeError("features n d", got=f"shape {tuple(features.shape)}", fix="Average maps first: .mean((2, 3)).")
    with torch.autocast(features.device.type, enabled=False):
        values = torch.linalg.svdvals(features.float())
        shares = values / values.sum().clamp(min=torch.finfo(values.dtype).tiny)
        rank: Tensor = torch.special.entr(shares).sum().exp()
    return rank
