from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from pretextkit.errors import OptionError, ShapeError
from pretextkit.losses import sigreg_loss

from .joint_embedding import embeddings, require_exact_in_half_precision, require_gradients


def naive(z: Tensor, directions: Tensor, knots: int = 17, limit: float = 3.0) -> float:
    total, step = 0.0, limit / (knots - 1)
    for direction in directions.T.tolist():
        length = math.hypot(*direction)
        projected = [sum(x * y for x, y in zip(row, direction, strict=True)) / length for row in z.tolist()]
        for knot in range(knots):
            t = knot * step
            real = sum(math.cos(t * x) for x in projected) / len(z) - math.exp(-t * t / 2)
            imaginary = sum(math.sin(t * x) for x in projected) / len(z)
            weight = step * (0.5 if knot in (0, knots - 1) else 1)
            total += 2 * weight * (real**2 + imaginary**2) * math.exp(-t * t / 2)
    return total / directions.shape[1]


@pytest.mark.parametrize(("knots", "limit"), [(17, 3.0), (5, 2.0)])
def test_loss_equals_a_loop(knots: int, limit: float) -> None:
    z, directions = embeddings(6, 3), embeddings(3, 4, seed=1).detach()
    loss = sigreg_loss(z, directions, knots=knots, limit=limit)
    assert loss.item() == pytest.approx(naive(z, directions, knots, limit), rel=1e-9)


def test_single_point_matches_the_closed_form() -> None:
    """The integral of (1 - exp(-t²/2))² exp(-t²/2) over the line is sqrt(2 pi) (1 - sqrt 2 + 1 / sqrt 3)."""
    loss = sigreg_loss(torch.zeros(5, 2).double(), torch.eye(2), knots=2001, limit=20)
    assert loss.item() == pytest.approx(math.sqrt(2 * math.pi) * (1 - math.sqrt(2) + 1 / math.sqrt(3)), rel=1e-5)


def test_gaussian_is_nearer_than_scaled_and_shifted_ones() -> None:
    z, directions = embeddings(4000, 3).detach(), torch.eye(3).double()
    assert sigreg_loss(z, directions) < 1e-3
    for other in (2 * z, z / 2, z + 1, z.sign()):
        assert sigreg_loss(other, directions) > 20 * sigreg_loss(z, directions)


def test_scale_does_not_grow_with_the_batch() -> None:
    z, directions = embeddings(50, 3).detach().sign(), torch.eye(3).double()
    torch.testing.assert_close(sigreg_loss(z.repeat(8, 1), directions), sigreg_loss(z, directions))


def test_gradients_match_finite_differences() -> None:
    directions = embeddings(3, 4, seed=1).detach()
    require_gradients(lambda z: sigreg_loss(z, directions), embeddings(5, 3))


def test_half_precision_is_exact() -> None:
    directions = embeddings(3, 4, seed=1).detach()
    require_exact_in_half_precision(lambda z: sigreg_loss(z, directions), embeddings(8, 3))


def test_invalid_input_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"^Expected directions 3 s, as long as the embeddings are wide, but got"):
        sigreg_loss(torch.eye(3), torch.eye(2))
    with pytest.raises(OptionError, match="knots to be an integer >= 2, but got 1"):
        sigreg_loss(torch.eye(3), torch.eye(3), knots=1)
