from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator, Tensor

from pretextkit.errors import DataError, OptionError, ShapeError
from pretextkit.functional import AnomalyScores, calibrate


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=Generator().manual_seed(seed))


def test_p_values_are_those_of_the_loop() -> None:
    normal, scores = drawn(40).round(decimals=1), drawn(60, seed=1).round(decimals=1)  # with ties
    found = calibrate(normal).p_values(scores)
    for score, p in zip(scores, found, strict=True):
        assert p.item() == pytest.approx((1 + sum(bool(each >= score) for each in normal)) / 41)


def test_scores_that_lie_apart_in_memory_are_scores() -> None:
    """torch warns of them, by default once in a process, and warnings are errors here."""
    scores = drawn(60)
    torch.set_warn_always(True)
    try:
        assert torch.equal(calibrate(drawn(40)).p_values(scores[::2]), calibrate(drawn(40)).p_values(scores)[::2])
    finally:
        torch.set_warn_always(False)


def test_scores_of_yes_and_no_are_numbers() -> None:
    calibration = calibrate(torch.tensor([True, False, False, False]), false_positive_rate=0.3)
    assert calibration.threshold == 1
    assert calibration.p_values(torch.tensor([True, False])).tolist() == [2 / 5, 1]


@given(
    st.lists(st.integers(0, 12), min_size=9, max_size=60),
    st.integers(10, 99).map(lambda percent: percent / 100),
)
def test_what_is_above_the_threshold_has_a_small_p_value_and_nothing_else_has(values: list[int], rate: float) -> None:
    normal = torch.tensor(values, dtype=torch.float32)
    calibration = calibrate(normal, false_positive_rate=rate)
    scores = torch.arange(-1, 14, 0.5)
    small = calibration.p_values(scores) <= rate + 1e-9
    assert torch.equal(scores > calibration.threshold, small)
    assert calibration.threshold in values


@pytest.mark.parametrize(("n", "rate", "rank"), [(19, 0.05, 1), (99, 0.29, 29), (39, 0.05, 2), (100, 0.05, 5)])
def test_the_threshold_is_the_order_statistic_of_the_exact_rate(n: int, rate: float, rank: int) -> None:
    """0.29 * 100 is 28.999999999999996."""
    assert calibrate(torch.arange(float(n)), false_positive_rate=rate).threshold == n - rank


def test_of_exchangeable_scores_exactly_the_rate_is_above() -> None:
    """The chance is k / (n + 1), here 2 / 40, over calibrations and new images; a quantile lets more pass."""
    trials = drawn(2000, 40)
    above = [(row[39] > calibrate(row[:39], false_positive_rate=0.05).threshold).item() for row in trials]
    assert sum(above) / 2000 == pytest.approx(0.05, abs=3 * math.sqrt(0.05 * 0.95 / 2000))


def test_every_leave_one_out_of_a_set_counts_exactly() -> None:
    """Exchangeability, with no chance in it: of 20 scores without ties, exactly one is above the other nineteen."""
    scores = drawn(20)
    above = [
        scores[i] > calibrate(torch.cat([scores[:i], scores[i + 1 :]]), false_positive_rate=0.05).threshold
        for i in range(20)
    ]
    assert sum(map(bool, above)) == 1


def test_too_few_normal_images_are_refused_with_how_many_it_takes() -> None:
    with pytest.raises(DataError) as caught:
        calibrate(torch.arange(98.0), false_positive_rate=0.01)
    assert str(caught.value) == (
        "Expected at least 99 normal scores for a false-positive rate of 0.01, but got 98. "
        "Hold out more normal images, or allow a higher rate."
    )
    assert calibrate(torch.arange(99.0), false_positive_rate=0.01).threshold == 98


@pytest.mark.parametrize("rate", [0, 1, -0.1, float("nan")])
def test_rates_out_of_range_are_refused(rate: float) -> None:
    with pytest.raises(OptionError) as caught:
        calibrate(torch.arange(9.0), false_positive_rate=rate)
    assert str(caught.value) == (
        f"Expected false_positive_rate to be a number in (0, 1), but got {rate}. "
        "0.05 calls 1 in 20 normal images an anomaly."
    )


@pytest.mark.parametrize(
    ("scores", "kind", "text"),
    [
        (torch.zeros(2, 3), ShapeError, "Expected scores n, but got shape (2, 3). Pass one score for each image."),
        (
            torch.tensor([1.0, math.nan]),
            DataError,
            "Expected finite scores, at least one, but got NaN or inf. Check the images.",
        ),
        (torch.zeros(0), DataError, "Expected finite scores, at least one, but got none. Check the images."),
    ],
)
def test_other_scores_are_refused(scores: Tensor, kind: type[Exception], text: str) -> None:
    calls: list[Any] = [lambda: calibrate(scores), lambda: calibrate(torch.arange(19.0)).p_values(scores)]
    for call in calls:
        with pytest.raises(kind) as caught:
            call()
        assert str(caught.value) == text


def test_results_of_a_method_go_in_as_they_are_and_stay() -> None:
    scores = drawn(30)
    kept = scores.clone()
    calibration = calibrate(AnomalyScores(scores), false_positive_rate=0.1)
    assert torch.equal(scores, kept)
    assert torch.equal(calibration.p_values(AnomalyScores(scores)), calibration.p_values(scores))
    assert str(calibration) == (
        f"anomalies score above {calibration.threshold:.4g}: at most 10.00% of normal images, from 30 of them"
    )
