from __future__ import annotations

import math
from statistics import NormalDist

import pytest
import torch
from torch import Tensor

from pretextkit.errors import OptionError, ShapeError
from pretextkit.losses import sigreg_loss, visreg_loss

from .joint_embedding import embeddings, require_exact_in_half_precision, require_gradients

DIRECTIONS = torch.randn(3, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def naive(z: Tensor, weight: float) -> float:
    n, d = z.shape
    center = scale = shape = 0.0
    columns, standardized = z.T.tolist(), []
    for column in columns:
        mean = sum(column) / n
        deviation = math.sqrt(sum((x - mean) ** 2 for x in column) / n)
        center += mean**2 / d
        scale += (1 - deviation) ** 2 / d
        standardized.append([(x - mean) / (deviation + 1e-4) for x in column])
    for direction in DIRECTIONS.T.tolist():
        length = math.sqrt(sum(x**2 for x in direction))
        points = sorted(sum(standardized[k][i] * direction[k] / length for k in range(d)) for i in range(n))
        for i, point in enumerate(points):
            shape += (point - NormalDist().inv_cdf((i + 1) / (n + 1))) ** 2 / (n * DIRECTIONS.shape[1])
    return center + scale + weight * shape


@pytest.mark.parametrize("weight", [0.0, 1.0, 3.0])
def test_loss_equals_a_loop(weight: float) -> None:
    z = 0.5 * embeddings(7, 3) + 0.3
    assert visreg_loss(z, DIRECTIONS, shape_weight=weight).item() == pytest.approx(naive(z.detach(), weight), rel=1e-9)


def test_single_point_matches_the_closed_form() -> None:
    """Center 2² and scale 1; without a shape, the distance is the variance of the quantiles."""
    z = torch.full((3, 3), 2.0)
    quantile = NormalDist().inv_cdf(0.75)
    assert visreg_loss(z, DIRECTIONS).item() == pytest.approx(4 + 1 + 2 * quantile**2 / 3, rel=1e-5)


def test_large_gaussian_has_no_loss() -> None:
    assert visreg_loss(embeddings(20_000, 3), DIRECTIONS) < 1e-3


def test_gradient_survives_near_a_collapse() -> None:
    """Of the scale it stays 2 / d for each deviation, and that of sigreg_loss vanishes."""
    z = (1e-4 * embeddings(8, 3)).detach().requires_grad_()
    strong, weak = (torch.autograd.grad(loss(z, DIRECTIONS), z)[0].norm() for loss in (visreg_loss, sigreg_loss))
    assert strong > 0.1
    assert weak < strong / 100


def test_gradient_of_a_single_point_is_finite() -> None:
    z = torch.ones(4, 3, requires_grad=True)
    (gradient,) = torch.autograd.grad(visreg_loss(z, DIRECTIONS), z)
    assert gradient.isfinite().all()


def test_gradients_match_finite_differences_without_the_shape() -> None:
    """The shape is standardized by a deviation without gradient, which finite differences cannot know."""
    require_gradients(lambda z: visreg_loss(z, DIRECTIONS, shape_weight=0.0), embeddings(5, 3))


def test_half_precision_is_exact() -> None:
    require_exact_in_half_precision(lambda z: visreg_loss(z, DIRECTIONS), embeddings(16, 3))


def test_invalid_input_is_refused() -> None:
    z = torch.rand(4, 3)
    with pytest.raises(ShapeError, match=r"^Expected directions 3 s, .* but got shape \(2, 9\)\. Draw them"):
        visreg_loss(z, torch.rand(2, 9))
    with pytest.raises(OptionError, match=r"^Expected shape_weight to be a number in \[0, inf\), but got -1"):
        visreg_loss(z, torch.rand(3, 9), shape_weight=-1)
