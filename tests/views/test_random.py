from __future__ import annotations

import pytest
import torch

from pretextkit.errors import OptionError, ShapeError
from pretextkit.views._random import bernoulli, randint, uniform
from tests.helpers import generator

N = 20_000
IMAGES = torch.empty(N, 1, 1, 1)


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-2.0, 3.0), (0.5, 0.5)])
def test_uniform_fills_its_range(low: float, high: float) -> None:
    draws = uniform(IMAGES, low, high, generator())
    assert draws.shape == (N,)
    assert low <= draws.min()
    assert draws.max() <= high
    quartiles = draws.quantile(torch.tensor([0.25, 0.5, 0.75]))
    expected = torch.tensor([low + q * (high - low) for q in (0.25, 0.5, 0.75)])
    torch.testing.assert_close(quartiles, expected, atol=0.02 * (high - low), rtol=1e-6)


@pytest.mark.parametrize("p", [0.0, 0.1, 0.8, 1.0])
def test_bernoulli_is_true_with_the_given_probability(p: float) -> None:
    happened = bernoulli(IMAGES, p, generator())
    assert happened.dtype == torch.bool
    rate = happened.float().mean().item()
    assert rate == p if p in (0, 1) else abs(rate - p) < 5 * (p * (1 - p) / N) ** 0.5


@pytest.mark.parametrize("count", [1, 3, 8])
def test_randint_draws_every_value_equally_often(count: int) -> None:
    draws = randint(IMAGES, count, generator())
    assert draws.dtype == torch.int64
    shares = torch.bincount(draws, minlength=count) / N
    torch.testing.assert_close(shares, torch.full((count,), 1 / count), atol=0.02, rtol=0)


@pytest.mark.parametrize("p", [-0.1, 1.1, float("nan")])
def test_bernoulli_refuses_invalid_probabilities(p: float) -> None:
    with pytest.raises(OptionError) as caught:
        bernoulli(IMAGES, p, generator())
    assert (
        caught.value.text == f"Expected the probability to be a number in [0, 1], but got {p}. 0 is never, 1 is always."
    )


def test_draws_refuse_images_without_batch_axis() -> None:
    text = r"^Expected images b c h w, but got shape \(2, 4, 4\)\. Add the missing axis: images\[:, None\] for gray"
    with pytest.raises(ShapeError, match=text):
        uniform(torch.zeros(2, 4, 4), 0, 1, generator())
    with pytest.raises(ShapeError, match=text):
        randint(torch.zeros(2, 4, 4), 2, generator())
