"""L-BFGS for a batch of functions."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["minimize_each"]

HISTORY = 10
"""Pairs of steps and gradient changes that approximate the curvature."""
HALVINGS = 10
"""Maximum number of halvings of a step that increases its function."""


class _Pair(NamedTuple):
    """A step and its gradient change, each ``g m``, and the inverse of their dot product, ``g``."""

    step: Tensor
    change: Tensor
    weight: Tensor

    def select(self, rows: Tensor) -> _Pair:
        """Select functions."""
        return _Pair(*(each[rows] for each in self))


def minimize_each(
    function: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    start: Tensor,
    *,
    max_steps: int,
    least_gain: float,
    least_slope: float,
) -> Tensor:
    """Minimize ``g`` functions at once, each with its own step length and curvature.

    The functions share costly work, such as a pass over the data, and nothing else. A converged function is not
    evaluated again. If no curvature exceeds 1, the first step needs no line search (Nocedal 1980, doi
    10.1090/S0025-5718-1980-0572855-7; Liu & Nocedal 1989, doi 10.1007/BF01589116).

    Args:
        function: Maps points ``g' m`` and the indices ``g'`` of the functions to evaluate to their values ``g'`` and
            gradients ``g' m``.
        start: Initial points ``g m``.
        max_steps: Maximum number of steps.
        least_gain: A function has converged when a step gains less.
        least_slope: A function has also converged when no component of its gradient is larger.

    Returns:
        Minimizers ``g m``.

    Example:
        >>> middles = torch.tensor([[1.0, 2.0], [-3.0, 0.0]])
        >>> def bowls(points, which):
        ...     away = points - middles[which]
        ...     return away.square().sum(1) / 2, away
        >>> minimize_each(bowls, torch.zeros(2, 2), max_steps=10, least_gain=1e-9, least_slope=1e-6)
        tensor([[ 1.,  2.],
                [-3.,  0.]])
    """
    result = start.clone()
    active = torch.arange(len(start), device=start.device)
    points = result.clone()
    values, gradients = function(points, active)
    pairs: deque[_Pair] = deque(maxlen=HISTORY)
    for _ in range(max_steps):
        steps = _direction(gradients, pairs)
        slopes = _dot(steps, gradients)
        up = slopes >= 0  # rounding, where the curvature is near 0
        steps = torch.where(up[:, None], -gradients, steps)
        slopes = torch.where(up, -_dot(gradients, gradients), slopes)
        for _ in range(HALVINGS):
            new_values, new_gradients = function(points + steps, active)
            too_far = new_values > values + 1e-4 * slopes + 1e-7 * values.abs()
            if not too_far.any():
                break
            shorter = torch.where(too_far, 0.5, 1.0).to(steps.dtype)
            steps, slopes = steps * shorter[:, None], slopes * shorter
        worse = ~(new_values <= values + 1e-7 * values.abs())  # or NaN
        new_points = torch.where(worse[:, None], points, points + steps)
        done = worse | (values - new_values < least_gain) | (new_gradients.abs().amax(1) < least_slope)
        pairs.append(_pair(steps, new_gradients - gradients))
        result[active] = new_points
        remaining = torch.nonzero(~done)[:, 0]
        if not len(remaining):
            break
        active, points = active[remaining], new_points[remaining]
        values, gradients = new_values[remaining], new_gradients[remaining]
        if len(remaining) < len(done):
            pairs = deque((pair.select(remaining) for pair in pairs), HISTORY)
    return result


def _dot(one: Tensor, other: Tensor) -> Tensor:
    return (one * other).sum(1)


def _pair(steps: Tensor, changes: Tensor) -> _Pair:
    product = _dot(steps, changes)
    curved = product > 1e-10 * _dot(steps, steps)
    return _Pair(steps, changes, torch.where(curved, 1 / product, torch.zeros_like(product)))


def _direction(gradients: Tensor, pairs: deque[_Pair]) -> Tensor:
    """Multiply the gradients with the approximate inverse curvature; pairs of weight 0 are ignored."""
    rest = gradients
    coefficients = []
    for step, change, weight in reversed(pairs):
        coefficient = weight * _dot(step, rest)
        rest = rest - coefficient[:, None] * change
        coefficients.append(coefficient)
    if pairs:
        step, change, weight = pairs[-1]
        length = _dot(step, change) / _dot(change, change)
        rest = rest * torch.where(weight > 0, length, torch.ones_like(length))[:, None]
    for (step, change, weight), coefficient in zip(pairs, reversed(coefficients), strict=True):
        rest = rest + (coefficient - weight * _dot(change, rest))[:, None] * step
    return -rest
