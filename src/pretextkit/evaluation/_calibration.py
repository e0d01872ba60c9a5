"""Temperature of a classifier, from held-out logits."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["best_scale"]

LARGEST = 100.0
STEPS = 50


def best_scale(logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> float:
    """Return the factor of the logits that gives them the lowest log loss (Guo et al. 2017, arXiv 1706.04599).

    The log loss is convex in the factor, which is one over the temperature; its derivative is bisected. One more image,
    of all classes alike, bounds the factor where every image is right.

    Args:
        logits: Held-out logits ``n k``.
        labels: Their labels ``n``.
        weights: Weights ``n`` of the images; equal by default.

    Example:
        >>> logits = torch.tensor([[4.0, 0.0], [4.0, 0.0], [4.0, 0.0], [4.0, 0.0]])
        >>> scale = best_scale(logits, torch.tensor([0, 0, 0, 1]))
        >>> (scale * logits[0]).softmax(0)  # three of four are right, and half of the one more image
        tensor([0.7000, 0.3000])
    """
    logits = logits.double()
    weights = torch.ones(len(logits)).double() if weights is None else weights.double() / weights.max()
    prior = weights / weights.sum()  # the one more image lies as the others do
    targets = weights * logits.gather(1, labels[:, None])[:, 0] + prior * logits.mean(1)
    low, high = 0.0, LARGEST
    for _ in range(STEPS):
        scale = (low + high) / 2
        expected = ((scale * logits).softmax(1) * logits).sum(1)
        gain = (targets - (weights + prior) * expected).sum()
        low, high = (scale, high) if gain > 0 else (low, scale)
    return (low + high) / 2
