from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from pretextkit.errors import OptionError, ShapeError
from pretextkit.losses import info_nce_loss, nt_xent_loss

from .joint_embedding import correlated, embeddings, require_exact_in_half_precision, require_gradients


def cosine(one: list[float], other: list[float]) -> float:
    return sum(x * y for x, y in zip(one, other, strict=True)) / (math.hypot(*one) * math.hypot(*other))


def naive(queries: Tensor, keys: Tensor, negatives: Tensor | None, temperature: float) -> float:
    total = 0.0
    for i, query in enumerate(queries.tolist()):
        right = cosine(query, keys.tolist()[i])
        wrong = [key for j, key in enumerate(keys.tolist()) if j != i] if negatives is None else negatives.tolist()
        scores = [right, *(cosine(query, each) for each in wrong)]
        total += math.log(sum(math.exp(score / temperature) for score in scores)) - right / temperature
    return total / len(queries)


@pytest.mark.parametrize("temperature", [0.1, 0.5])
@pytest.mark.parametrize("queue", [0, 1, 7])
def test_loss_equals_a_loop(queue: int, temperature: float) -> None:
    queries, keys = correlated(5, 4)
    negatives = embeddings(queue, 4, seed=9) if queue else None
    loss = info_nce_loss(queries, keys, negatives, temperature=temperature)
    assert loss.item() == pytest.approx(naive(queries, keys, negatives, temperature), rel=1e-9)


@pytest.mark.parametrize("n", [2, 6])
def test_orthogonal_pairs_match_the_closed_form(n: int) -> None:
    z = torch.eye(n)
    assert info_nce_loss(z, z).item() == pytest.approx(math.log(math.exp(2) + n - 1) - 2, rel=1e-4)
    assert info_nce_loss(z, z, -z[:1]).item() < info_nce_loss(z, z, z[:1]).item()


@pytest.mark.parametrize("n", [2, 5])
def test_equal_embeddings_give_the_loss_of_random_guesses(n: int) -> None:
    z = torch.ones(n, 3)
    assert info_nce_loss(z, z).item() == pytest.approx(math.log(n))
    assert info_nce_loss(z, z, torch.ones(7, 3)).item() == pytest.approx(math.log(8))


def test_gradients_match_finite_differences() -> None:
    require_gradients(info_nce_loss, *correlated(4, 3))
    require_gradients(info_nce_loss, *correlated(4, 3), embeddings(5, 3, seed=5))


def test_half_precision_is_exact_at_low_temperature() -> None:
    require_exact_in_half_precision(lambda q, k: info_nce_loss(q, k, temperature=0.05), *correlated(8, 5))


def test_queries_are_not_negatives_of_each_other() -> None:
    """NT-Xent also repels views of one side; InfoNCE has n candidates."""
    queries, keys = correlated(6, 3)
    assert info_nce_loss(queries, keys) < nt_xent_loss(queries, keys)


def test_wrong_pairing_increases_the_loss() -> None:
    queries, keys = correlated(8, 5)
    assert info_nce_loss(queries, keys.roll(1, 0)) > info_nce_loss(queries, keys) + 0.3


def test_invalid_embeddings_are_refused() -> None:
    z = torch.eye(4)
    with pytest.raises(ShapeError, match=r"^Expected two embeddings of the same shape n d, but got \(4, 4\)"):
        info_nce_loss(z, z[:3])
    with pytest.raises(ShapeError, match="because other images are the negatives, but got 1"):
        info_nce_loss(z[:1], z[:1])
    assert info_nce_loss(z[:1], z[:1], z[1:]).isfinite()
    with pytest.raises(ShapeError, match=r"^Expected negatives m 4, as wide as the queries, but got shape \(3, 2\)"):
        info_nce_loss(z, z, torch.zeros(3, 2))
    with pytest.raises(OptionError, match=r"^Expected temperature to be a number in \(0, inf\), but got 0"):
        info_nce_loss(z, z, temperature=0)
