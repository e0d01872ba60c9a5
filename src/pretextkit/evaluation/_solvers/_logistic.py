"""Multinomial logistic regression for a grid of penalties at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from pretextkit.evaluation._solvers._lbfgs import minimize_each
from pretextkit.evaluation._storage import FeatureStore, Rows, row_slices

__all__ = ["LogisticModel", "fit_logistic", "fit_rotated", "principal_directions", "rotate"]


class LogisticModel(NamedTuple):
    """Weights and biases for ``g`` penalties."""

    weight: Tensor
    """``g d k``."""
    bias: Tensor
    """``g k``."""

    def logits(self, features: Tensor) -> Tensor:
        """Map ``n d`` to ``g n k``."""
        return features @ self.weight + self.bias[:, None]


def fit_logistic(
    features: Rows,
    labels: Tensor,
    classes: int,
    penalties: Tensor,
    *,
    weights: Tensor | None = None,
    start: LogisticModel | None = None,
    max_steps: int = 200,
    store: FeatureStore | None = None,
) -> LogisticModel:
    """Minimize mean cross entropy + penalty / 2 * |W|^2 by L-BFGS until a step gains less than 1e-6.

    The problems for all penalties are solved together: one product with the features serves every problem that has not
    converged. The features are first rotated to the eigenvectors of their Gram matrix, and each direction is scaled by
    the upper bound of the curvature along it. Correlated features then cost no extra iterations.

    Args:
        features: ``n d``, float32, centered and of about unit variance.
        labels: ``n``, 0…k-1.
        classes: ``k``.
        penalties: ``g``, each above 0.
        weights: Weight ``n`` of each row in the mean, of mean 1; equal weights by default.
        start: Initial solution for each penalty; zero weights by default.
        max_steps: Maximum number of steps.
        store: Storage of the rotated features; memory without a limit by default.

    Returns:
        Weights and biases for every penalty.

    Example:
        >>> features = torch.tensor([[-1.0], [1.0]])
        >>> model = fit_logistic(features, torch.tensor([0, 1]), 2, torch.tensor([0.1]))
        >>> model.logits(features).argmax(2)
        tensor([[0, 1]])
    """
    variances, directions = principal_directions(features, weights)
    rotated = rotate(features, directions, (store or FeatureStore()).scratch(len(features), len(variances)))
    start = None if start is None else LogisticModel(directions.float().T @ start.weight, start.bias)
    model = fit_rotated(
        rotated, variances, labels, classes, penalties, weights=weights, start=start, max_steps=max_steps
    )
    return LogisticModel(directions.float() @ model.weight, model.bias)


def rotate(features: Rows, directions: Tensor, out: Tensor) -> Tensor:
    """Write the coordinates of features ``n d`` along directions ``d r`` into ``out`` ``n r``, and return it."""
    for rows in row_slices(*features.shape):
        torch.mm(features[rows], directions.float(), out=out[rows])
    return out


def fit_rotated(
    rotated: Tensor,
    variances: Tensor,
    labels: Tensor,
    classes: int,
    penalties: Tensor,
    *,
    weights: Tensor | None = None,
    parts: Sequence[slice] = (slice(None),),
    start: LogisticModel | None = None,
    max_steps: int = 200,
    least_gain: float = 1e-6,
) -> LogisticModel:
    """Fit features that are already rotated to their principal directions.

    Args:
        rotated: ``n r``, float32.
        variances: ``r``: upper bounds of the (weighted) variances of the rows in ``parts``.
        labels: ``n``, 0…k-1.
        classes: ``k``.
        penalties: ``g``, each above 0.
        weights: Weight ``n`` of each row, of mean 1 over ``parts``; equal weights by default.
        parts: Slices of the rows to fit, such as all but one fold.
        start: Initial solution for each penalty; zero weights by default.
        max_steps: Maximum number of steps.
        least_gain: A penalty has converged when a step gains less.

    Returns:
        Weights and biases of the rotated features for every penalty.
    """
    rank = rotated.shape[1]
    ranges = [range(*part.indices(len(rotated))) for part in parts]
    count = sum(map(len, ranges))
    # 1/2 bounds the curvature of the softmax (Boehning 1992): in these units no direction has a curvature above 1.
    scales = (
        torch.cat([variances.expand(len(penalties), -1), torch.ones(len(penalties), 1, dtype=variances.dtype)], 1) / 2
    )
    scales[:, :rank] += penalties[:, None]
    scales = scales.rsqrt().float()[:, :, None]  # g r+1 1, the last for the bias

    def objective(points: Tensor, which: Tensor) -> tuple[Tensor, Tensor]:
        grid = len(which)
        scaled = points.view(grid, rank + 1, classes) * scales[which]
        weight, bias = scaled[:, :rank], scaled[:, rank]
        columns = weight.transpose(0, 1).flatten(1)
        losses, gradient = scales.new_zeros(grid), scales.new_zeros(grid, rank + 1, classes)
        slices = (
            slice(rows.start + part.start, rows.start + part.stop)
            for rows in ranges
            for part in row_slices(len(rows), max(rank, columns.shape[1]))
        )
        for rows in slices:
            logits = torch.addmm(bias.flatten(), rotated[rows], columns).view(-1, grid, classes)
            target = labels[rows, None, None].expand(-1, grid, 1)
            normalizer = logits.logsumexp(2, keepdim=True)
            row_losses = (normalizer - logits.gather(2, target))[..., 0]
            slope = logits.sub_(normalizer).exp_()
            slope.scatter_add_(2, target, torch.full_like(normalizer, -1)).div_(count)  # d loss / d logits
            if weights is not None:
                row_losses *= weights[rows, None]
                slope *= weights[rows, None, None]
            losses += row_losses.sum(0)
            # Several times faster than rotated.T @ slope, which has too few columns for a fast kernel.
            gradient[:, :rank] += (slope.flatten(1).T @ rotated[rows]).view(grid, classes, rank).mT
            gradient[:, rank] += slope.sum(0)
        decay = penalties[which, None]
        gradient[:, :rank] += decay[:, :, None] * weight
        values = losses / count + decay[:, 0] / 2 * weight.square().sum((1, 2))
        return values, (gradient * scales[which]).flatten(1)

    points = scales.new_zeros(len(penalties), rank + 1, classes)
    if start is not None:
        points[:, :rank], points[:, rank] = start.weight, start.bias
        points /= scales
    points = minimize_each(objective, points.flatten(1), max_steps=max_steps, least_gain=least_gain, least_slope=1e-5)
    solution = points.view(len(penalties), rank + 1, classes) * scales
    return LogisticModel(solution[:, :rank], solution[:, rank])


def principal_directions(features: Rows, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return the (weighted) variances ``r`` and directions ``d r`` of features ``n d``, in double precision.

    The solution lies in the span of the rows, because |W| is penalized. With fewer rows than columns, the Gram matrix
    of the rows, ``n n``, has the same nonzero eigenvalues as that of the columns, ``d d``.
    """
    count, width = features.shape
    scales = None if weights is None else weights.double().sqrt()[:, None]
    if width > count:
        rows = features[:].double() if scales is None else features[:].double() * scales
        variances, vectors = _spanned(rows @ rows.T / count)
        return variances, rows.T @ vectors / (variances * count).sqrt()
    products = torch.zeros(width, width, dtype=torch.float64)
    for part in row_slices(count, width):
        some = features[part].double() if scales is None else features[part].double() * scales[part]
        products += some.T @ some
    return _spanned(products / count)


def _spanned(products: Tensor) -> tuple[Tensor, Tensor]:
    variances, vectors = torch.linalg.eigh(products)
    spanned = variances > variances[-1] * 1e-9
    return variances[spanned], vectors[:, spanned]
