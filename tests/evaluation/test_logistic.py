from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor

from pretextkit.evaluation._solvers._logistic import fit_logistic, principal_directions

PENALTIES = torch.tensor([1e-3, 1e-2, 0.1, 1.0])


def clouds(n: int, d: int, k: int, seed: int = 0, spread: float = 1.0) -> tuple[Tensor, Tensor]:
    generator = Generator().manual_seed(seed)
    labels = torch.arange(n) % k
    features = torch.randn(n, d, generator=generator) + spread * torch.randn(k, d, generator=generator)[labels]
    return (features - features.mean(0)) / features.std(0, correction=0), labels


def newton(features: Tensor, labels: Tensor, k: int, penalty: float) -> tuple[Tensor, Tensor]:
    """Newton's method in float64, with an explicit Hessian."""
    n, d = features.shape
    rows = torch.cat([features.double(), torch.ones(n, 1, dtype=torch.float64)], 1)
    target = torch.nn.functional.one_hot(labels, k).double()
    decay = torch.full((d + 1, k), penalty, dtype=torch.float64)
    decay[d] = 1e-7  # the bias has no penalty; a little keeps the Hessian invertible
    weights = torch.zeros(d + 1, k, dtype=torch.float64)
    for _ in range(50):
        p = (rows @ weights).softmax(1)
        gradient = rows.T @ (p - target) / n + decay * weights
        curvature = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
        hessian = torch.einsum("n i, n j, n a b -> i a j b", rows, rows, curvature) / n
        hessian = hessian.reshape((d + 1) * k, -1) + torch.diag(decay.flatten())
        step = torch.linalg.solve(hessian, gradient.flatten()).view_as(weights)
        weights = weights - step
        if step.abs().max() < 1e-8:
            break
    else:
        raise AssertionError("the twin did not converge")
    return weights[:d], weights[d] - weights[d].mean()


def objective(features: Tensor, labels: Tensor, weight: Tensor, bias: Tensor, penalty: float) -> Tensor:
    logits = features.double() @ weight.double() + bias.double()
    loss = torch.nn.functional.cross_entropy(logits, labels)
    return loss + penalty / 2 * weight.double().square().sum()


@pytest.mark.parametrize(("n", "d", "k"), [(60, 4, 2), (90, 6, 3), (40, 2, 5)])
def test_solutions_equal_newtons_method(n: int, d: int, k: int) -> None:
    features, labels = clouds(n, d, k)
    model = fit_logistic(features, labels, k, PENALTIES)
    assert model.weight.shape == (4, d, k)
    assert model.bias.shape == (4, k)
    for g, penalty in enumerate(PENALTIES.tolist()):
        weight, bias = newton(features, labels, k, penalty)
        size = weight.abs().max().item()
        torch.testing.assert_close(model.weight[g].double(), weight, rtol=0, atol=0.03 * size)
        ours = model.logits(features)[g].double().log_softmax(1)
        theirs = (features.double() @ weight + bias).log_softmax(1)
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0.03 * theirs.abs().max().item())
        best = objective(features, labels, weight, bias, penalty)
        assert objective(features, labels, model.weight[g], model.bias[g], penalty) - best < 1e-5


@given(n=st.integers(2, 30), d=st.integers(1, 30), seed=st.integers(0, 10**6))
def testprincipal_directions_directions_rebuild_the_gram_matrix(n: int, d: int, seed: int) -> None:
    features = torch.randn(n, d, generator=Generator().manual_seed(seed))
    features = torch.cat([features, features[:1]])  # fewer directions than rows
    variances, directions = principal_directions(features)
    assert directions.shape == (d, min(n, d)) == (d, len(variances))
    torch.testing.assert_close(directions.T @ directions, torch.eye(len(variances), dtype=torch.float64))
    rows = features.double()
    torch.testing.assert_close((directions * variances) @ directions.T, rows.T @ rows / len(rows))


@settings(deadline=None, max_examples=25)
@given(n=st.integers(4, 60), d=st.integers(1, 80), k=st.integers(2, 4), seed=st.integers(0, 10**6), twins=st.booleans())
def test_gradient_at_the_solution_is_zero(n: int, d: int, k: int, seed: int, twins: bool) -> None:
    features, labels = clouds(max(n, 2 * k), d, k, seed)
    if twins:  # perfectly correlated
        features = torch.cat([features, features, features[:, :1] * 0], 1)
    model = fit_logistic(features, labels, k, PENALTIES)
    for g, penalty in enumerate(PENALTIES.tolist()):
        weight = model.weight[g].double().requires_grad_(True)
        bias = model.bias[g].double().requires_grad_(True)
        loss = objective(features, labels, weight, bias, penalty)
        for gradient in torch.autograd.grad(loss, [weight, bias]):
            assert gradient.norm() < 0.02  # at zero it is about 0.5


def test_penalties_are_solved_independently() -> None:
    features, labels = clouds(60, 5, 3)
    together = fit_logistic(features, labels, 3, PENALTIES)
    for g in range(4):
        alone = fit_logistic(features, labels, 3, PENALTIES[g : g + 1])
        torch.testing.assert_close(together.weight[g], alone.weight[0], rtol=0.05, atol=0.03)


def test_larger_penalty_gives_smaller_weights() -> None:
    features, labels = clouds(60, 5, 3)
    norms = fit_logistic(features, labels, 3, PENALTIES).weight.flatten(1).norm(dim=1).tolist()
    assert norms == sorted(norms, reverse=True)
    assert norms[0] > 2 * norms[-1]


def test_two_points_equal_the_closed_form() -> None:
    # w (2 sigma(-2w) ...): for x = -1, 1 the two columns are -v and v with 1 - tanh(v) = 2 * penalty * v.
    features, labels = torch.tensor([[-1.0], [1.0]]), torch.tensor([0, 1])
    model = fit_logistic(features, labels, 2, torch.tensor([0.1]))
    v = model.weight[0, 0, 1].item()
    assert model.weight[0, 0, 0].item() == pytest.approx(-v, abs=1e-4)
    p = torch.sigmoid(torch.tensor(-2 * v, dtype=torch.float64)).item()  # of the wrong class
    assert p == pytest.approx(0.1 * v, abs=1e-4)


def test_class_without_rows_is_never_predicted() -> None:
    features, labels = clouds(30, 3, 2)
    model = fit_logistic(features, labels, 4, PENALTIES)
    assert model.logits(features).isfinite().all()
    assert int(model.logits(features).argmax(2).max()) <= 1


def test_more_features_than_rows_still_separate() -> None:
    features, labels = clouds(10, 300, 2)
    model = fit_logistic(features, labels, 2, PENALTIES[:1])
    assert (model.logits(features)[0].argmax(1) == labels).all()
    # The solution lies in the span of the rows.
    weight = model.weight[0].double()
    inside = torch.linalg.lstsq(features.T.double(), weight, driver="gelsd").solution
    torch.testing.assert_close(features.T.double() @ inside, weight, atol=1e-4, rtol=1e-3)


def test_solution_is_deterministic_and_has_no_gradient() -> None:
    features, labels = clouds(30, 3, 2)
    state = torch.get_rng_state()
    one, other = (fit_logistic(features, labels, 2, PENALTIES) for _ in range(2))
    assert torch.equal(one.weight, other.weight)
    assert not one.weight.requires_grad
    assert torch.equal(state, torch.get_rng_state())
    assert (features.mean(0).abs() < 1e-5).all()
