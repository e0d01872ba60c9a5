"""Multinomial logistic regression for a whole grid of penalties at once."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pretextkit.functional.rows import Rows, empty_rows, slices

__all__ = ["LogisticModel", "fit_logistic"]


class LogisticModel(NamedTuple):
    """Solutions for ``g`` penalties."""

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
    max_steps: int = 200,
    memory: float = math.inf,
) -> LogisticModel:
    """Minimise mean cross entropy + penalty / 2 * |W|^2 by L-BFGS, until a step gains less than a millionth.

    The problems for all penalties are solved together: one product with the features serves them all. The features are
    first turned into the eigenvectors of their Gram matrix, and each direction is scaled by the most that the loss can
    curve along it, so that correlated features cost no extra iterations.

    Args:
        features: ``n d``, float32, centred and of about unit variance.
        labels: ``n``, 0…k-1.
        classes: ``k``.
        penalties: ``g``, each above 0.
        max_steps: Steps after which the solution is taken as it is.
        memory: Bytes that the turned features may take; where they take more, they lie in a temporary file.

    Returns:
        Weights and biases for every penalty.

    Example:
        >>> features = torch.tensor([[-1.0], [1.0]])
        >>> model = fit_logistic(features, torch.tensor([0, 1]), 2, torch.tensor([0.1]))
        >>> model.logits(features).argmax(2)
        tensor([[0, 1]])
    """
    count, grid = len(features), len(penalties)
    variances, directions = _principal(features)
    # A half bounds the curvature of the softmax (Boehning 1992): in these units steps are safe in every direction.
    scale = (variances[:, None] / 2 + penalties.double()).rsqrt().float()[:, :, None]  # r g 1
    turned = empty_rows(count, len(variances), memory)
    for rows in slices(count, features.shape[1]):
        torch.mm(features[rows], directions.float(), out=turned[rows])
    weight = torch.zeros(len(variances), grid, classes, requires_grad=True)
    bias = torch.zeros(grid, classes, requires_grad=True)
    optimizer: Any = torch.optim.LBFGS(
        [weight, bias],
        max_iter=max_steps,
        tolerance_grad=1e-5,
        tolerance_change=1e-6 * grid,
        history_size=10,
        line_search_fn="strong_wolfe",
    )

    @torch.no_grad()
    def objective() -> Tensor:
        scaled = weight * scale
        losses, gradient, bias_gradient = torch.zeros(grid), torch.zeros_like(scaled), torch.zeros_like(bias)
        for rows in slices(count, max(len(variances), bias.numel())):
            logits = (turned[rows] @ scaled.flatten(1)).view(-1, grid, classes) + bias
            target = labels[rows, None, None].expand(-1, grid, 1)
            normalizer = logits.logsumexp(2, keepdim=True)
            losses += (normalizer - logits.gather(2, target))[..., 0].sum(0)
            slope = logits.sub_(normalizer).exp_()
            slope.scatter_add_(2, target, torch.full_like(normalizer, -1)).div_(count)  # d loss / d logits
            # Several times faster than turned.T @ slope, whose few columns fit no kernel.
            gradient += (slope.flatten(1).T @ turned[rows]).T.view_as(weight)
            bias_gradient += slope.sum(0)
        weight.grad = (gradient + penalties[:, None] * scaled) * scale
        bias.grad = bias_gradient
        return (losses / count + penalties / 2 * scaled.square().sum((0, 2))).sum()

    optimizer.step(objective)
    solution = torch.einsum("d r, r g k -> g d k", directions.float(), weight.detach() * scale)
    return LogisticModel(solution, bias.detach())


def _principal(features: Rows) -> tuple[Tensor, Tensor]:
    """Give the variances ``r`` and directions ``d r`` in which features ``n d`` vary, in double precision.

    The solution lies in the span of the rows, as |W| is penalised. Where there are fewer rows than columns, the
    products of rows with one another, ``n n``, tell the same as those of columns, ``d d``.
    """
    count, width = features.shape
    if width > count:
        rows = features[:].double()
        variances, vectors = _spanned(rows @ rows.T / count)
        return variances, rows.T @ vectors / (variances * count).sqrt()
    products = torch.zeros(width, width, dtype=torch.float64)
    for part in slices(count, width):
        some = features[part].double()
        products += some.T @ some
    return _spanned(products / count)


def _spanned(products: Tensor) -> tuple[Tensor, Tensor]:
    variances, vectors = torch.linalg.eigh(products)
    spanned = variances > variances[-1] * 1e-9
    return variances[spanned], vectors[:, spanned]
