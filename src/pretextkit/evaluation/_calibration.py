"""Scale of logits, which is one over a temperature, from held-out predictions."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

__all__ = ["best_scale", "log_loss"]

SMALLEST = 0.01
HALVINGS = 16


def best_scale(logits: Tensor, labels: Tensor, weights: Tensor) -> float:
    """Return the factor of the logits, at most 1, with the lowest log loss (Guo et al. 2017, arXiv 1706.04599).

    The log loss is convex in the factor: the sign of its derivative is bisected. Predictions become less sure only,
    because where few held-out images happen to be right the best factor has no bound.

    Args:
        logits: Held-out logits ``n k``.
        labels: Their labels ``n``.
        weights: Weights ``n`` of the images, at least one above 0.

    Example:
        >>> logits = torch.tensor([[4.0, 0.0]]).expand(4, 2)
        >>> scale = best_scale(logits, torch.tensor([0, 0, 0, 1]), torch.ones(4))
        >>> (scale * logits[0]).softmax(0)  # three of four are right
        tensor([0.7500, 0.2500])
    """
    kept = weights > 0
    logits, labels, weights = logits[kept], labels[kept], weights[kept]
    of_labels = weights @ logits.gather(1, labels[:, None])[:, 0]

    def is_too_small(scale: float) -> bool:
        expected = ((scale * logits).softmax(1) * logits).sum(1)
        return bool(of_labels > weights @ expected)

    if is_too_small(1.0):
        return 1.0
    low, high = math.log(SMALLEST), 0.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if is_too_small(math.exp(middle)) else (low, middle)
    return math.exp((low + high) / 2)


def log_loss(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Return the log loss of each image, ``n``, times its weight; 0 where the weight is 0.

    Example:
        >>> log_loss(torch.zeros(2, 2), torch.tensor([0, 1]), torch.tensor([0.0, 2.0]))
        tensor([0.0000, 1.3863])
    """
    losses = cross_entropy(logits, labels, reduction="none")
    return torch.where(weights > 0, losses * weights, 0.0)
