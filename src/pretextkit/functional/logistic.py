"""Multinomial logistic regression for a whole grid of penalties at once."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

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
    features: Tensor, labels: Tensor, classes: int, penalties: Tensor, *, max_steps: int = 200
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
    turned = features @ directions.float()
    target = nn.functional.one_hot(labels, classes).float()[:, None]  # n 1 k
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
        logits = (turned @ scaled.flatten(1)).view(count, grid, classes) + bias
        normalizer = logits.logsumexp(2, keepdim=True)
        losses = (normalizer[..., 0] - (logits * target).sum(2)).mean(0) + penalties / 2 * scaled.square().sum((0, 2))
        slope = logits.sub_(normalizer).exp_().sub_(target).div_(count)  # d loss / d logits
        # Several times faster than turned.T @ slope, whose few columns fit no kernel.
        product = (slope.flatten(1).T @ turned).T.contiguous()
        gradient = product.view_as(weight) + penalties[:, None] * scaled
        weight.grad, bias.grad = gradient * scale, slope.sum(0)
        total: Tensor = losses.sum()
        return total

    optimizer.step(objective)
    solution = torch.einsum("d r, r g k -> g d k", directions.float(), weight.detach() * scale)
    return LogisticModel(solution, bias.detach())


def _principal(features: Tensor) -> tuple[Tensor, Tensor]:
    """Give the variances ``r`` and directions ``d r`` in which features ``n d`` vary, in double precision.

    The solution lies in the span of the rows, as |W| is penalised. Where there are fewer rows than columns, the
    products of rows with one another, ``n n``, tell the same as those of columns, ``d d``.
    """
    rows = features.double()
    wide = rows.shape[1] > len(rows)
    variances, vectors = torch.linalg.eigh((rows @ rows.T if wide else rows.T @ rows) / len(rows))
    spanned = variances > variances[-1] * 1e-9
    variances, vectors = variances[spanned], vectors[:, spanned]
    return variances, rows.T @ vectors / (variances * len(rows)).sqrt() if wide else vectors
