from __future__ import annotations

import math

import pytest
import torch

from pretextkit.errors import DataError, ShapeError
from pretextkit.losses import alignment, negative_cosine_similarity

from .joint_embedding import correlated, require_exact_in_half_precision, require_gradients


def test_loss_equals_a_loop() -> None:
    p, t = correlated(5, 4)
    total = 0.0
    for one, other in zip(p.tolist(), t.tolist(), strict=True):
        total -= sum(x * y for x, y in zip(one, other, strict=True)) / (math.hypot(*one) * math.hypot(*other))
    assert negative_cosine_similarity(p, t).item() == pytest.approx(total / 5, rel=1e-9)


@pytest.mark.parametrize("angle", [0, 30, 90, 180])
def test_angles_match_the_closed_form(angle: float) -> None:
    radians = math.radians(angle)
    p, t = torch.tensor([[3.0, 0.0]]), torch.tensor([[math.cos(radians), math.sin(radians)]])
    assert negative_cosine_similarity(p, t).item() == pytest.approx(-math.cos(radians), abs=1e-6)


def test_squared_distance_of_byol_is_twice_the_loss_plus_2() -> None:
    p, t = correlated(6, 3)
    torch.testing.assert_close(
        alignment(p, t).double(), 2 + 2 * negative_cosine_similarity(p, t).detach(), rtol=1e-5, atol=1e-6
    )


def test_gradients_match_finite_differences() -> None:
    require_gradients(negative_cosine_similarity, *correlated(4, 3))


def test_half_precision_is_exact() -> None:
    require_exact_in_half_precision(negative_cosine_similarity, *correlated(8, 5))


def test_zero_predictions_give_finite_gradient() -> None:
    p = torch.zeros(2, 3, requires_grad=True)
    (gradient,) = torch.autograd.grad(negative_cosine_similarity(p, torch.ones(2, 3)), p)
    assert gradient.isfinite().all()


def test_invalid_embeddings_are_refused() -> None:
    with pytest.raises(ShapeError, match="Embed both views of the same images"):
        negative_cosine_similarity(torch.eye(2), torch.eye(3))
    with pytest.raises(DataError, match="floating-point"):
        negative_cosine_similarity(torch.eye(2).long(), torch.eye(2))
