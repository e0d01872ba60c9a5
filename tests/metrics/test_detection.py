from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pretextkit.errors import DataError, ShapeError
from pretextkit.functional import AnomalyScores, detection_metrics
from tests.helpers import normal as gaussian


def drawn_scores(n: int, seed: int) -> Tensor:
    return gaussian(n, seed=seed)


def test_detection_metrics_equal_loops() -> None:
    normal, anomalous = drawn_scores(60, 0).round(decimals=1), (drawn_scores(25, 1) + 1).round(decimals=1)  # with ties
    metrics = detection_metrics(AnomalyScores(normal), anomalous)
    pairs = [(a > n).item() + 0.5 * (a == n).item() for a in anomalous for n in normal]
    assert metrics.auroc == pytest.approx(sum(pairs) / len(pairs))
    thresholds = sorted({*normal.tolist(), *anomalous.tolist()}, reverse=True)
    recalls = [0.0] + [(anomalous >= t - 1e-6).float().mean().item() for t in thresholds]
    hits = [(anomalous >= t - 1e-6).sum().item() for t in thresholds]
    alarms = [(normal >= t - 1e-6).sum().item() for t in thresholds]
    expected = sum((recalls[i + 1] - recalls[i]) * hits[i] / (hits[i] + alarms[i]) for i in range(len(thresholds)))
    assert metrics.average_precision == pytest.approx(expected, rel=1e-5)
    assert metrics.fpr_at_95 == pytest.approx(
        min(alarm / 60 for alarm, recall in zip(alarms, recalls[1:], strict=True) if recall >= 0.95)
    )


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e4])
def test_detection_metrics_depend_only_on_ranks(scale: float) -> None:
    """torchmetrics takes scores outside [0, 1] for logits, and the sigmoid is 1 above 17: all would tie."""
    normal, anomalous = 20 + drawn_scores(50, 0), 21 + drawn_scores(50, 1)
    assert detection_metrics(scale * normal, scale * anomalous) == detection_metrics(normal, anomalous)
    assert 0.6 < detection_metrics(scale * normal, scale * anomalous).auroc < 0.9


def test_detection_metrics_of_perfect_and_tied_scores() -> None:
    assert detection_metrics(torch.arange(5.0), torch.arange(5.0) + 10) == (1.0, 1.0, 0.0)
    assert detection_metrics(torch.arange(5.0) + 10, torch.arange(5.0)).auroc == 0.0
    even = detection_metrics(torch.zeros(6), torch.zeros(3))
    assert (even.auroc, even.fpr_at_95) == (0.5, 1.0)
    assert even.average_precision == pytest.approx(1 / 3)


def test_detection_metrics_print_one_line() -> None:
    assert str(detection_metrics(torch.arange(5.0), torch.arange(5.0) + 10)) == (
        "AUROC 100.0%, average precision 100.0%, FPR at 95 % TPR 0.0%"
    )


def test_invalid_scores_are_refused() -> None:
    with pytest.raises(DataError, match="Expected finite scores, at least one, but got none"):
        detection_metrics(torch.zeros(3), torch.zeros(0))
    with pytest.raises(ShapeError, match=r"Expected scores n, but got shape \(2, 4\)"):
        detection_metrics(torch.zeros(2, 4), torch.zeros(3))


def test_detection_metrics_accept_any_object_with_scores() -> None:
    class Scored:
        scores = torch.arange(5.0)

    assert detection_metrics(Scored(), Scored.scores + 10).auroc == 1.0
