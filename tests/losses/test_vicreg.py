from __future__ import annotations

import math
import statistics
from typing import Any

import pytest
import torch
from torch import Tensor

from pretextkit.errors import OptionError, ShapeError
from pretextkit.losses import vicreg_loss

from .joint_embedding import correlated, require_exact_in_half_precision, require_gradients

ALONE = {"invariance_weight": 0.0, "variance_weight": 0.0, "covariance_weight": 0.0}


def naive(z_a: Tensor, z_b: Tensor, weights: tuple[float, float, float]) -> float:
    n, d = z_a.shape
    invariance = sum((x - y) ** 2 for x, y in zip(z_a.flatten().tolist(), z_b.flatten().tolist(), strict=True)) / (
        n * d
    )
    lack = covariance = 0.0
    for z in (z_a, z_b):
        columns = z.T.tolist()
        for i, one in enumerate(columns):
            lack += max(0, 1 - float(math.sqrt(statistics.variance(one) + 1e-4))) / d
            for j, other in enumerate(columns):
                if i != j:
                    covariance += statistics.covariance(one, other) ** 2 / d
    total: float = weights[0] * invariance + weights[1] * lack / 2 + weights[2] * covariance
    return total


@pytest.mark.parametrize("weights", [(25.0, 25.0, 1.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)])
def test_loss_equals_a_loop(weights: tuple[float, float, float]) -> None:
    z_a, z_b = correlated(6, 4)
    options: dict[str, Any] = dict(zip(ALONE, weights, strict=True))
    small = 0.5 * z_a, 0.5 * z_b  # some deviations below 1
    assert vicreg_loss(*small, **options).item() == pytest.approx(naive(*small, weights), rel=1e-9)


def test_collapsed_embeddings_match_the_closed_form() -> None:
    """Without variance, the deviation is the root of the small constant, 0.01."""
    z = torch.ones(4, 3)
    assert vicreg_loss(z, z).item() == pytest.approx(25 * 0.99)


def test_variance_divides_by_images_minus_one() -> None:
    """Values +-0.5 of two images: squared deviations of 0.5 / (n - 1) = 0.5 in each of two equal dimensions."""
    z = torch.tensor([[0.5, 0.5], [-0.5, -0.5]])
    loss = vicreg_loss(z, z, **{**ALONE, "covariance_weight": 1.0})
    assert loss.item() == pytest.approx(2 * 2 * 0.5**2 / 2)  # two views, two covariances, over d


def test_covariance_does_not_overflow_in_half_precision() -> None:
    z = 300 * torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=torch.float16)
    assert (z.T @ z).isinf().any()
    assert vicreg_loss(z, z).item() == pytest.approx(2 * 180_000.0**2, rel=1e-3)


def test_gradients_match_finite_differences() -> None:
    require_gradients(vicreg_loss, *correlated(5, 3))


def test_half_precision_is_exact() -> None:
    require_exact_in_half_precision(vicreg_loss, *correlated(16, 5))


def test_collapsed_embeddings_give_finite_gradient() -> None:
    z = torch.ones(4, 3, requires_grad=True)
    (gradient,) = torch.autograd.grad(vicreg_loss(z, z), z)
    assert gradient.isfinite().all()


def test_invalid_input_is_refused() -> None:
    z = torch.eye(4)
    with pytest.raises(ShapeError, match="because variances are taken over images, but got 1"):
        vicreg_loss(z[:1], z[:1])
    with pytest.raises(ShapeError, match="two embeddings of the same shape"):
        vicreg_loss(z, z[:, :2])
    with pytest.raises(OptionError, match=r"variance_weight to be a number in \[0, inf\), but got -1.*25\.0"):
        vicreg_loss(z, z, variance_weight=-1)
