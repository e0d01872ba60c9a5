"""L-BFGS for several functions side by side."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["minimize_each"]

HISTORY = 10
"""Pairs of steps and changes of the gradient that the curvature is told by."""
HALVINGS = 10
"""Of a step that leads up."""


class _Pair(NamedTuple):
    """A step and how the gradient changed over it, each ``g m``, and one over their product, ``g``."""

    step: Tensor
    change: Tensor
    weight: Tensor

    def of(self, rows: Tensor) -> _Pair:
        """Give that of some functions."""
        return _Pair(*(each[rows] for each in self))


def minimize_each(
    function: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    start: Tensor,
    *,
    max_steps: int,
    least_gain: float,
    least_slope: float,
) -> Tensor:
    """Go down on ``g`` functions at once, each with a step length and a curvature of its own.

    The functions share what is costly, such as a pass over data, and nothing else: each ends where it has converged,
    and is not computed from then on. In units in which no curvature is above 1, the first step needs no search (Nocedal
    1980, doi 10.1090/S0025-5718-1980-0572855-7; Liu & Nocedal 1989, doi 10.1007/BF01589116).

    Args:
        function: Takes points ``g' m`` and the numbers ``g'`` of the functions that are asked for, and gives their
            values ``g'`` and gradients ``g' m``.
        start: ``g m``.
        max_steps: Steps after which a point is taken as it is.
        least_gain: A function has converged when a step gains less.
        least_slope: Or when no component of its gradient is larger.

    Returns:
        ``g m``.

    Example:
        >>> middles = torch.tensor([[1.0, 2.0], [-3.0, 0.0]])
        >>> def bowls(points, which):
        ...     away = points - middles[which]
        ...     return away.square().sum(1) / 2, away
        >>> minimize_each(bowls, torch.zeros(2, 2), max_steps=10, least_gain=1e-9, least_slope=1e-6)
        tensor([[ 1.,  2.],
                [-3.,  0.]])
    """
    found = start.clone()
    which = torch.arange(len(start), device=start.device)
    points = found.clone()
    values, gradients = function(points, which)
    pairs: deque[_Pair] = deque(maxlen=HISTORY)
    for _ in range(max_steps):
        steps = _direction(gradients, pairs)
        slopes = _dot(steps, gradients)
        up = slopes >= 0  # rounding, in a curvature near to 0
        steps = torch.where(up[:, None], -gradients, steps)
        slopes = torch.where(up, -_dot(gradients, gradients), slopes)
        for _ in range(HALVINGS):
            new_values, new_gradients = function(points + steps, which)
            too_far = new_values > values + 1e-4 * slopes + 1e-7 * values.abs()
            if not too_far.any():
                break
            shorter = torch.where(too_far, 0.5, 1.0)
            steps, slopes = steps * shorter[:, None], slopes * shorter
        worse = ~(new_values <= values + 1e-7 * values.abs())  # or not a number
        new_points = torch.where(worse[:, None], points, points + steps)
        done = worse | (values - new_values < least_gain) | (new_gradients.abs().amax(1) < least_slope)
        pairs.append(_pair(steps, new_gradients - gradients))
        found[which] = new_points
        going = torch.nonzero(~done)[:, 0]
        if not len(going):
            break
        which, points = which[going], new_points[going]
        values, gradients = new_values[going], new_gradients[going]
        if len(going) < len(done):
            pairs = deque((pair.of(going) for pair in pairs), HISTORY)
    return found


def _dot(one: Tensor, other: Tensor) -> Tensor:
    return (one * other).sum(1)


def _pair(steps: Tensor, changes: Tensor) -> _Pair:
    product = _dot(steps, changes)
    curved = product > 1e-10 * _dot(steps, steps)
    return _Pair(steps, changes, torch.where(curved, 1 / product, torch.zeros_like(product)))


def _direction(gradients: Tensor, pairs: deque[_Pair]) -> Tensor:
    """Multiply with the inverse curvature that the pairs tell of; a pair of weight 0 tells nothing."""
    rest = gradients
    shares = []
    for step, change, weight in reversed(pairs):
        share = weight * _dot(step, rest)
        rest = rest - share[:, None] * change
        shares.append(share)
    if pairs:
        step, change, weight = pairs[-1]
        length = _dot(step, change) / _dot(change, change)
        rest = rest * torch.where(weight > 0, length, torch.ones_like(length))[:, None]
    for (step, change, weight), share in zip(pairs, reversed(shares), strict=True):
        rest = rest + (share - weight * _dot(change, rest))[:, None] * step
    return -rest
