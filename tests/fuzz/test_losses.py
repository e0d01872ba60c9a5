"""Losses and metrics of arbitrary input: the value of a plain loop, or a pretextkit error."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pretextkit import losses

from .strategies import answer, any_tensors, images, matrices

PAIRS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "alignment": losses.alignment,
    "barlow_twins_loss": losses.barlow_twins_loss,
    "dino_loss": lambda one, other: losses.dino_loss([one, other], [other, one], one.new_zeros(one.shape[1:])),
    "info_nce_loss": losses.info_nce_loss,
    "negative_cosine_similarity": losses.negative_cosine_similarity,
    "nt_xent_loss": losses.nt_xent_loss,
    "sigreg_loss": lambda one, other: losses.sigreg_loss(one, other.mT if other.ndim == 2 else other),
    "swav_loss": lambda one, other: losses.swav_loss([one, other]),
    "vicreg_loss": losses.vicreg_loss,
    "visreg_loss": lambda one, other: losses.visreg_loss(one, other.mT if other.ndim == 2 else other),
}
LOGITS: dict[str, Callable[..., Tensor]] = {
    "discriminator_loss": losses.discriminator_loss,
    "generator_loss": losses.generator_loss,
}
SINGLES: dict[str, Callable[[Tensor], Tensor]] = {
    "feature_spread": losses.feature_spread,
    "psnr": losses.psnr,
    "rankme": losses.rankme,
    "uniformity": losses.uniformity,
}


def test_every_public_loss_is_tested() -> None:
    assert {*PAIRS, *SINGLES, *LOGITS, "masked_mse", "sinkhorn", "weighted_mse"} == set(losses.__all__)


def unit(z: Tensor) -> list[list[float]]:
    rows = [[float(value) for value in row] for row in z.detach().double()]
    lengths = [max(math.sqrt(sum(value * value for value in row)), 1e-12) for row in rows]
    return [[value / length for value in row] for row, length in zip(rows, lengths, strict=True)]


def dot(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def slow_nt_xent(z_a: Tensor, z_b: Tensor) -> float:
    rows, n = unit(z_a) + unit(z_b), len(z_a)
    total = 0.0
    for i, row in enumerate(rows):
        scores = [math.exp(dot(row, other) / 0.5) for j, other in enumerate(rows) if j != i]
        total += math.log(sum(scores)) - dot(row, rows[(i + n) % (2 * n)]) / 0.5
    return total / (2 * n)


def slow_alignment(z_a: Tensor, z_b: Tensor) -> float:
    pairs = list(zip(unit(z_a), unit(z_b), strict=True))
    return sum(sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) for a, b in pairs) / len(pairs)


def slow_uniformity(z: Tensor) -> float:
    rows = unit(z)
    near = [
        math.exp(-2 * sum((x - y) ** 2 for x, y in zip(a, b, strict=True)))
        for i, a in enumerate(rows)
        for j, b in enumerate(rows)
        if i != j
    ]
    return math.log(sum(near) / len(near))


def slow_spread(z: Tensor) -> float:
    rows, total = unit(z), 0.0
    for column in zip(*rows, strict=True):
        mean = sum(column) / len(column)
        total += math.sqrt(sum((value - mean) ** 2 for value in column) / len(column))
    return total / len(rows[0]) * math.sqrt(len(rows[0]))


@pytest.mark.parametrize("name", PAIRS)
@given(one=any_tensors(), other=any_tensors(), same=st.booleans())
def test_nt_xent_any_pair_gives_loss_or_error(name: str, one: Tensor, other: Tensor, same: bool) -> None:
    result = answer(PAIRS[name], one, one if same else other)
    if result is not None:
        assert same or one.shape == other.shape or name == "sigreg_loss"
        assert one.ndim == 2
        assert one.numel()
        assert one.is_floating_point()
        assert result.shape == ()


@given(scores=any_tensors())
def test_sinkhorn_any_scores_give_assignments_or_error(scores: Tensor) -> None:
    result = answer(losses.sinkhorn, scores)
    if result is not None:
        assert scores.is_floating_point()
        assert result.shape == scores.shape
        assert not scores.isfinite().all() or result.isnan().any() or (result.sum(1) - 1).abs().max() < 1e-4


@given(one=any_tensors(4), other=any_tensors(4), mask=any_tensors(4), same=st.booleans())
def test_masked_patches_any_input_gives_loss_or_error(one: Tensor, other: Tensor, mask: Tensor, same: bool) -> None:
    one, other, mask = (
        (one, one / 2, one[..., 0] > 0) if same and one.ndim == 3 and one.shape[2] else (one, other, mask)
    )
    result = answer(losses.masked_mse, one, other, mask)
    if result is not None:
        assert one.shape == other.shape
        assert one.ndim == 3
        assert mask.dtype == torch.bool
        assert result.shape == ()


@pytest.mark.parametrize("name", SINGLES)
@given(x=any_tensors())
def test_measures_any_tensor_gives_value_or_error(name: str, x: Tensor) -> None:
    result = answer(SINGLES[name], x)
    if result is not None:
        assert x.is_floating_point()
        assert result.shape == (x.shape if name == "psnr" else ())
        if name != "psnr":
            assert x.ndim == 2
            assert x.numel()


@pytest.mark.parametrize("name", LOGITS)
@given(one=any_tensors(), other=any_tensors(), same=st.booleans())
def test_any_logits_give_loss_or_error(name: str, one: Tensor, other: Tensor, same: bool) -> None:
    logits = (one, one if same else other)[: 2 if name == "discriminator_loss" else 1]
    result = answer(LOGITS[name], *logits)
    if result is not None:
        assert len({each.shape for each in logits}) == 1
        assert all(each.numel() and each.is_floating_point() for each in logits)
        assert result.shape == ()


@given(one=any_tensors(5), other=any_tensors(5), weights=any_tensors(5), x=images(), same=st.booleans())
def test_masked_mse_any_input_gives_loss_or_error(
    one: Tensor, other: Tensor, weights: Tensor, x: Tensor, same: bool
) -> None:
    one, other = (x, x / 2) if same else (one, other)
    result = answer(losses.weighted_mse, one, other, weights)
    if result is not None:
        assert one.shape == other.shape
        assert one.ndim == 4
        assert weights.shape == (len(one), 1, *one.shape[2:])
        assert result.shape == ()


@given(z_a=matrices(2), seed=st.integers(0, 99))
def test_nt_xent_matches_naive_loop(z_a: Tensor, seed: int) -> None:
    z_b = z_a.detach().flip(0).roll(seed, 1) + 0.1
    values = {
        "nt_xent_loss": (losses.nt_xent_loss(z_a, z_b), slow_nt_xent(z_a, z_b)),
        "alignment": (losses.alignment(z_a, z_b), slow_alignment(z_a, z_b)),
        "uniformity": (losses.uniformity(z_a), slow_uniformity(z_a)),
        "feature_spread": (losses.feature_spread(z_a), slow_spread(z_a)),
    }
    for name, (ours, twin) in values.items():
        assert ours.item() == pytest.approx(twin, rel=1e-4, abs=2e-5), name
    assert 1 - 1e-4 <= losses.rankme(z_a).item() <= min(z_a.shape) + 1e-4 or not z_a.any()


@given(x=images(largest=4), seed=st.integers(0, 99))
def test_masked_mse_matches_naive_loop(x: Tensor, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randint(0, 3, (len(x), 1, *x.shape[2:]), generator=generator).float()
    target = torch.rand(x.shape, generator=generator)
    total = count = 0.0
    for b in range(len(x)):
        for i in range(x.shape[2]):
            for j in range(x.shape[3]):
                error = sum((float(x.detach()[b, c, i, j]) - float(target[b, c, i, j])) ** 2 for c in range(x.shape[1]))
                total += float(weights[b, 0, i, j]) * error / x.shape[1]
                count += float(weights[b, 0, i, j])
    assert losses.weighted_mse(x, target, weights).item() == pytest.approx(total / count if count else 0, abs=1e-5)
