from __future__ import annotations

import statistics

import pytest
import torch
from torch import Tensor

from pretextkit.errors import OptionError, ShapeError
from pretextkit.losses import barlow_twins_loss

from .joint_embedding import correlated, require_exact_in_half_precision, require_gradients


def naive(z_a: Tensor, z_b: Tensor, weight: float) -> float:
    def standardized(column: list[float]) -> list[float]:
        deviation = (statistics.pvariance(column) + 1e-5) ** 0.5
        return [(value - statistics.fmean(column)) / deviation for value in column]

    a, b = ([standardized(column) for column in z.T.tolist()] for z in (z_a, z_b))
    total = 0.0
    for i, one in enumerate(a):
        for j, other in enumerate(b):
            correlation = sum(x * y for x, y in zip(one, other, strict=True)) / len(z_a)
            total += (1 - correlation) ** 2 if i == j else weight * correlation**2
    return total


@pytest.mark.parametrize("weight", [0.0, 5e-3, 1.0])
def test_loss_equals_a_loop(weight: float) -> None:
    z_a, z_b = correlated(6, 4)
    loss = barlow_twins_loss(z_a, z_b, redundancy_weight=weight)
    assert loss.item() == pytest.approx(naive(z_a, z_b, weight), rel=1e-9)


def test_constant_and_redundant_embeddings_match_closed_forms() -> None:
    """d dimensions without variance correlate with nothing: d. Equal ones correlate fully: w d (d - 1)."""
    assert barlow_twins_loss(torch.ones(6, 3), torch.ones(6, 3)).item() == pytest.approx(3)
    equal = torch.tensor([[1.0], [-1.0]]).expand(2, 3).double()
    assert barlow_twins_loss(equal, equal, redundancy_weight=0.1).item() == pytest.approx(0.6, rel=1e-3)


def test_loss_ignores_scale_and_offset_of_each_dimension() -> None:
    z_a, z_b = correlated(8, 3)
    scaled = 100 * z_a + torch.tensor([5.0, -3.0, 0.0])
    torch.testing.assert_close(barlow_twins_loss(scaled, z_b), barlow_twins_loss(z_a, z_b), rtol=1e-4, atol=1e-4)


def test_gradients_match_finite_differences() -> None:
    require_gradients(barlow_twins_loss, *correlated(5, 3))


def test_half_precision_is_exact() -> None:
    require_exact_in_half_precision(barlow_twins_loss, *correlated(16, 5))


def test_invalid_input_is_refused() -> None:
    z = torch.eye(4)
    with pytest.raises(ShapeError, match="because correlations are taken over images, but got 1"):
        barlow_twins_loss(z[:1], z[:1])
    with pytest.raises(ShapeError, match="two embeddings of the same shape"):
        barlow_twins_loss(z, z[:2])
    with pytest.raises(OptionError, match=r"redundancy_weight to be a number in \[0, inf\), but got -1"):
        barlow_twins_loss(z, z, redundancy_weight=-1)
