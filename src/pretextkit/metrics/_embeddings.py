"""Metrics of embeddings: agreement of views, spread and effective rank."""

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

    The value is 0 for equal views and 2 for unrelated views (Wang & Isola 2020, arXiv 2005.10242).

    Args:
        z_a: Embeddings ``n d`` of the first view.
        z_b: Embeddings ``n d`` of the second view.

    Returns:
        Scalar ``()``.

    Raises:
        ShapeError: The embeddings are not ``n d``, or their shapes differ.
        DataError: The embeddings are not floating-point.

    Example:
        >>> alignment(torch.eye(3), torch.eye(3))
        tensor(0.)
    """
    if z_a.shape != z_b.shape:
        raise ShapeError(
            "two embeddings of equal shape n d",
            got=f"{tuple(z_a.shape)} and {tuple(z_b.shape)}",
            fix="Embed both views of the same images.",
        )
    check_rows(z_a, "embeddings")
    check_rows(z_b, "embeddings")
    difference = nn.functional.normalize(z_a.float()) - nn.functional.normalize(z_b.float())
    return difference.square().sum(1).mean()


@torch.no_grad()
def uniformity(z: Tensor) -> Tensor:
    """Measure how evenly normalized embeddings cover the sphere: 0 for a single point, about -4 for an even cover.

    The value is the logarithm of the mean of ``exp(-2 |z_i - z_j|^2)`` over pairs (Wang & Isola 2020, arXiv
    2005.10242). The matrix of pairs is computed in chunks.

    Args:
        z: Embeddings ``n d``; a single row has no pairs and gives NaN.

    Returns:
        Scalar ``()``.

    Raises:
        ShapeError: The embeddings are not ``n d``.
        DataError: The embeddings are not floating-point.

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
    """Measure how far normalized features are from collapse: 0 for a single point, 1 for an even cover of the sphere.

    The value is the standard deviation of each coordinate, averaged and multiplied by the square root of ``d``.

    Args:
        features: ``n d``; a single row gives 0.

    Returns:
        Scalar ``()``.

    Raises:
        ShapeError: The features are not ``n d``.
        DataError: The features are not floating-point.

    Example:
        >>> feature_spread(torch.ones(8, 4))
        tensor(0.)
    """
    check_rows(features, "features")
    deviations = nn.functional.normalize(features.float()).std(0, correction=0)
    return deviations.mean() * math.sqrt(features.shape[1])


@torch.no_grad()
def rankme(features: Tensor) -> Tensor:
    """Estimate the effective rank of features: 1 for features on one line, at most the smaller of ``n`` and ``d``.

    RankMe is the exponential of the entropy of the singular values, divided by their sum (Garrido et al. 2023, arXiv
    2210.02885, equation 1). It needs no labels, and a low rank predicts low accuracy of probes. The rank grows with
    ``n``: compare only ranks of equally many images.

    Args:
        features: ``n d``, at least one row.

    Returns:
        Scalar ``()``.

    Raises:
        ShapeError: The features are not ``n d``, or there are none.
        DataError: The features are not floating-point, or not finite.

    Example:
        >>> rankme(torch.eye(8)), rankme(torch.ones(8, 8))
        (tensor(8.0000), tensor(1.0000))
    """
    check_rows(features, "features")
    if not features.isfinite().all():
        raise DataError("finite features", got="NaN or infinity", fix="Check the weights of the model.")
    with torch.autocast(features.device.type, enabled=False):
        values = torch.linalg.svdvals(features.float())
        fractions = values / values.sum().clamp(min=torch.finfo(values.dtype).tiny)
        rank: Tensor = torch.special.entr(fractions).sum().exp()
    return rank
