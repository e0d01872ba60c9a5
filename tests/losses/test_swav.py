from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pretextkit.errors import OptionError, ShapeError
from pretextkit.losses import sinkhorn, swav_loss

from .joint_embedding import embeddings, require_exact_in_half_precision, require_gradients


def scores(n: int, k: int, seed: int = 0) -> Tensor:
    """Cosines of random embeddings with random prototypes."""
    z, prototypes = embeddings(n, 8, seed=seed).detach(), embeddings(k, 8, seed=99).detach()
    return (F.normalize(z) @ F.normalize(prototypes).T).requires_grad_()


def naive_sinkhorn(scores: Tensor, epsilon: float, iterations: int) -> list[list[float]]:
    q = [[math.exp(score / epsilon) for score in row] for row in scores.tolist()]
    for _ in range(iterations):
        totals = [sum(row[j] for row in q) for j in range(len(q[0]))]
        q = [[value / total for value, total in zip(row, totals, strict=True)] for row in q]
        q = [[value / sum(row) for value in row] for row in q]
    return q


def naive(views: list[Tensor], targets: int) -> float:
    total = 0.0
    for own in range(targets):
        clusters = naive_sinkhorn(views[own], 0.05, 3)
        for other, view in enumerate(views):
            if other == own:
                continue
            for cluster, row in zip(clusters, view.tolist(), strict=True):
                normalizer = math.log(sum(math.exp(score / 0.1) for score in row))
                total += sum(c * (normalizer - s / 0.1) for c, s in zip(cluster, row, strict=True)) / len(view)
    return total / (targets * (len(views) - 1))


@pytest.mark.parametrize("local", [0, 2])
def test_loss_equals_a_loop(local: int) -> None:
    views = [scores(5, 4, seed=seed) for seed in range(2 + local)]
    assert swav_loss(views[:2], views[2:]).item() == pytest.approx(naive(views, 2), rel=1e-9)


@pytest.mark.parametrize("iterations", [1, 3])
def test_sinkhorn_equals_a_loop(iterations: int) -> None:
    expected = torch.tensor(naive_sinkhorn(scores(6, 4), 0.05, iterations), dtype=torch.float64)
    torch.testing.assert_close(sinkhorn(scores(6, 4), iterations=iterations), expected)


def test_many_iterations_use_all_prototypes_equally_often() -> None:
    clusters = sinkhorn(scores(12, 4), iterations=2000)
    torch.testing.assert_close(clusters.sum(0), torch.full((4,), 3.0).double(), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(clusters.sum(1), torch.ones(12).double())
    assert not clusters.requires_grad


def test_sinkhorn_is_finite_for_a_small_epsilon_in_half_precision() -> None:
    """exp(1 / 0.05) is above the largest number of fp16, and exp(1 / 0.005) above that of fp32."""
    half = scores(6, 4).half()
    assert (half.detach().abs().amax() / 0.005).exp().isinf()
    for epsilon in (0.05, 0.005):
        exact = sinkhorn(half.double(), epsilon=epsilon)
        torch.testing.assert_close(sinkhorn(half, epsilon=epsilon), exact.float(), rtol=1e-3, atol=1e-5)


def test_equal_scores_give_log_k() -> None:
    assert swav_loss([torch.ones(5, 6)] * 2).item() == pytest.approx(math.log(6))


def test_gradients_match_finite_differences() -> None:
    """The gradient of predictions alone, because clusters are constants: views a second time as targets."""
    fixed = [scores(4, 3, seed=seed).detach() for seed in range(2)]
    require_gradients(lambda local: swav_loss(fixed, [local]), scores(4, 3, seed=5))


def test_half_precision_is_exact() -> None:
    require_exact_in_half_precision(lambda a, b: swav_loss([a, b]), scores(8, 4), scores(8, 4, seed=1))


def test_invalid_views_are_refused() -> None:
    with pytest.raises(ShapeError, match="got 1 global of 1 views, with shapes"):
        swav_loss([torch.zeros(4, 3)])
    with pytest.raises(ShapeError, match="got 0 global of 2 views"):
        swav_loss([], [torch.zeros(4, 3)] * 2)
    with pytest.raises(ShapeError, match=r"got 2 global of 2 views, with shapes \[\(4, 2\), \(4, 3\)\]"):
        swav_loss([torch.zeros(4, 3), torch.zeros(4, 2)])
    with pytest.raises(OptionError, match=r"epsilon to be a number in \(0, inf\), but got 0.* 0\.05"):
        swav_loss([torch.zeros(4, 3)] * 2, epsilon=0)
