from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pretextkit.errors import DataError, OptionError, PretextkitError, ShapeError
from pretextkit.functional import AnomalyScores, calibrate
from tests.helpers import normal as gaussian


def test_p_values_match_a_loop() -> None:
    normal, scores = gaussian(40).round(decimals=1), gaussian(60, seed=1).round(decimals=1)  # with ties
    found = calibrate(normal).p_values(scores)
    for score, p in zip(scores, found, strict=True):
        assert p.item() == pytest.approx((1 + sum(bool(each >= score) for each in normal)) / 41)


def test_p_values_of_strided_scores_do_not_warn() -> None:
    """torch warns about non-contiguous input once per process, and warnings are errors here."""
    scores = gaussian(60)
    torch.set_warn_always(True)
    try:
        assert torch.equal(calibrate(gaussian(40)).p_values(scores[::2]), calibrate(gaussian(40)).p_values(scores)[::2])
    finally:
        torch.set_warn_always(False)


def test_bool_scores_count_as_numbers() -> None:
    calibration = calibrate(torch.tensor([True, False, False, False]), false_positive_rate=0.3)
    assert calibration.threshold == 1
    assert calibration.p_values(torch.tensor([True, False])).tolist() == [2 / 5, 1]


@given(
    st.lists(st.integers(0, 12), min_size=9, max_size=60),
    st.integers(10, 99).map(lambda percent: percent / 100),
)
def test_threshold_agrees_with_p_values(values: list[int], rate: float) -> None:
    normal = torch.tensor(values, dtype=torch.float32)
    calibration = calibrate(normal, false_positive_rate=rate)
    scores = torch.arange(-1, 14, 0.5)
    small = calibration.p_values(scores) <= rate + 1e-9
    assert torch.equal(scores > calibration.threshold, small)
    assert calibration.threshold in values


@pytest.mark.parametrize(("n", "rate", "rank"), [(19, 0.05, 1), (99, 0.29, 29), (39, 0.05, 2), (100, 0.05, 5)])
def test_threshold_is_order_statistic_of_the_exact_rate(n: int, rate: float, rank: int) -> None:
    """0.29 * 100 is 28.999999999999996."""
    assert calibrate(torch.arange(float(n)), false_positive_rate=rate).threshold == n - rank


def test_false_positive_rate_is_exact_on_exchangeable_scores() -> None:
    """The probability is k / (n + 1), here 2 / 40, over calibrations and new images; a quantile allows more."""
    trials = gaussian(2000, 40)
    above = [(row[39] > calibrate(row[:39], false_positive_rate=0.05).threshold).item() for row in trials]
    assert sum(above) / 2000 == pytest.approx(0.05, abs=3 * math.sqrt(0.05 * 0.95 / 2000))


def test_leave_one_out_gives_exact_false_positive_count() -> None:
    """Exchangeability without randomness: of 20 distinct scores, exactly one is above the other nineteen."""
    scores = gaussian(20)
    above = [
        scores[i] > calibrate(torch.cat([scores[:i], scores[i + 1 :]]), false_positive_rate=0.05).threshold
        for i in range(20)
    ]
    assert sum(map(bool, above)) == 1


def test_calibrate_reports_how_many_scores_the_rate_needs() -> None:
    with pytest.raises(DataError) as caught:
        calibrate(torch.arange(98.0), false_positive_rate=0.01)
    assert caught.value.text == (
        "Expected at least 99 normal scores for a false-positive rate of 0.01, but got 98. "
        "Hold out more normal images, or allow a higher rate."
    )
    assert calibrate(torch.arange(99.0), false_positive_rate=0.01).threshold == 98


@pytest.mark.parametrize("rate", [0, 1, -0.1, float("nan")])
def test_calibrate_refuses_rates_out_of_range(rate: float) -> None:
    with pytest.raises(OptionError) as caught:
        calibrate(torch.arange(9.0), false_positive_rate=rate)
    assert caught.value.text == (
        f"Expected false_positive_rate to be a number in (0, 1), but got {rate}. "
        "0.05 calls 1 in 20 normal images an anomaly."
    )


@pytest.mark.parametrize(
    ("scores", "kind", "text"),
    [
        (
            torch.zeros(2, 3),
            ShapeError,
            "Expected scores n, but got shape (2, 3). Take one score of each image: scores.flatten(1).amax(1).",
        ),
        (
            torch.tensor([1.0, math.nan]),
            DataError,
            "Expected finite scores, at least one, but got NaN or inf. Check the images.",
        ),
        (torch.zeros(0), DataError, "Expected finite scores, at least one, but got none. Check the images."),
    ],
)
def test_calibration_refuses_malformed_scores(scores: Tensor, kind: type[PretextkitError], text: str) -> None:
    calls: list[Any] = [lambda: calibrate(scores), lambda: calibrate(torch.arange(19.0)).p_values(scores)]
    for call in calls:
        with pytest.raises(kind) as caught:
            call()
        assert caught.value.text == text


def test_calibrate_accepts_anomaly_scores_unchanged() -> None:
    scores = gaussian(30)
    kept = scores.clone()
    calibration = calibrate(AnomalyScores(scores), false_positive_rate=0.1)
    assert torch.equal(scores, kept)
    assert torch.equal(calibration.p_values(AnomalyScores(scores)), calibration.p_values(scores))
    assert str(calibration) == (
        f"anomalies score above {calibration.threshold:.4g}: at most 10.00% of normal images, from 30 of them"
    )
