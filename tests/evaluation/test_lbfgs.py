from __future__ import annotations

from collections import deque
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from pretextkit.evaluation._solvers._lbfgs import HISTORY, _direction, _pair, minimize_each


class Quadratics:
    """Functions ``(x - middle) A (x - middle) / 2`` with curvatures up to 1; counts evaluations of each function."""

    def __init__(self, count: int = 3, size: int = 6, seed: int = 0) -> None:
        generator = Generator().manual_seed(seed)
        turns, _ = torch.linalg.qr(torch.randn(count, size, size, generator=generator, dtype=torch.float64))
        bends = torch.logspace(-2, 0, size, dtype=torch.float64)
        self.bends = turns @ torch.diag(bends) @ turns.mT
        self.middles = torch.randn(count, size, generator=generator, dtype=torch.float64)
        self.asked: list[list[int]] = []

    def __call__(self, points: Tensor, which: Tensor) -> tuple[Tensor, Tensor]:
        self.asked.append(which.tolist())
        away = points - self.middles[which]
        slopes = torch.einsum("g i j, g j -> g i", self.bends[which], away)
        return (away * slopes).sum(1) / 2, slopes


EXACT: dict[str, Any] = {"max_steps": 200, "least_gain": 1e-14, "least_slope": 1e-9}


def test_minimize_each_finds_every_minimum() -> None:
    functions = Quadratics()
    start = torch.zeros(3, 6, dtype=torch.float64)
    found = minimize_each(functions, start, **EXACT)
    torch.testing.assert_close(found, functions.middles, rtol=0, atol=1e-5)
    assert not start.any()  # unchanged


def test_minimize_each_solves_functions_independently() -> None:
    """A function takes the same steps in a batch as alone."""
    together = Quadratics()
    start = torch.zeros(3, 6, dtype=torch.float64)
    found = minimize_each(together, start, max_steps=7, least_gain=0, least_slope=0)
    for number in range(3):
        alone = Quadratics()
        only = minimize_each(
            lambda points, which, number=number, alone=alone: alone(points, which + number),  # type: ignore[misc]
            start[:1],
            max_steps=7,
            least_gain=0,
            least_slope=0,
        )
        torch.testing.assert_close(found[number], only[0], rtol=0, atol=1e-12)


def test_converged_functions_are_not_evaluated_again() -> None:
    functions = Quadratics()
    start = torch.zeros(3, 6, dtype=torch.float64)
    start[1] = functions.middles[1]  # starts at its minimum
    found = minimize_each(functions, start, **EXACT)
    torch.testing.assert_close(found, functions.middles, rtol=0, atol=1e-5)
    assert functions.asked[0] == [0, 1, 2]
    assert functions.asked[2] == [0, 2]
    assert len(functions.asked) > 10


def test_step_that_increases_is_halved() -> None:
    """With a curvature of 30 in place of 1, the first full step overshoots."""

    def steep(points: Tensor, which: Tensor) -> tuple[Tensor, Tensor]:
        return 15 * points.square().sum(1), 30 * points

    start = torch.ones(1, 2, dtype=torch.float64)
    once = minimize_each(steep, start, max_steps=1, least_gain=0, least_slope=0)
    assert once.abs().max() < 1
    found = minimize_each(steep, start, **EXACT)
    torch.testing.assert_close(found, torch.zeros(1, 2, dtype=torch.float64), rtol=0, atol=1e-6)


def test_point_stays_when_no_step_decreases() -> None:
    def endless(points: Tensor, which: Tensor) -> tuple[Tensor, Tensor]:
        return torch.where(points.sum(1) == 0, 0.0, torch.nan), torch.ones_like(points)

    found = minimize_each(endless, torch.zeros(2, 3), max_steps=5, least_gain=0, least_slope=0)
    assert not found.any()


@pytest.mark.parametrize("count", [1, 4, HISTORY])
def test_direction_equals_the_explicit_bfgs_matrix(count: int) -> None:
    """Reference: H <- (I - w s y') H (I - w y s') + w s s', from a multiple of the identity."""
    generator = Generator().manual_seed(0)
    functions = Quadratics(count=1)
    steps = torch.randn(count, 1, 6, generator=generator, dtype=torch.float64)
    pairs = [_pair(step, torch.einsum("g i j, g j -> g i", functions.bends, step)) for step in steps]
    gradient = torch.randn(1, 6, generator=generator, dtype=torch.float64)
    last = pairs[-1]
    eye = torch.eye(6, dtype=torch.float64)
    inverse = (last.step[0] @ last.change[0]) / (last.change[0] @ last.change[0]) * eye
    for pair in pairs:
        step, change, weight = pair.step[0], pair.change[0], pair.weight[0]
        left = eye - weight * torch.outer(step, change)
        inverse = left @ inverse @ left.T + weight * torch.outer(step, step)
    torch.testing.assert_close(_direction(gradient, deque(pairs))[0], -inverse @ gradient[0])


def test_pair_without_curvature_is_ignored() -> None:
    flat = _pair(torch.ones(1, 3), -torch.ones(1, 3))
    assert flat.weight.tolist() == [0]
    gradient = torch.tensor([[1.0, 2.0, 3.0]])
    assert torch.equal(_direction(gradient, deque([flat])), -gradient)
