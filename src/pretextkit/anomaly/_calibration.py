"""From scores to decisions: p-values and a threshold, from normal images alone."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction

import torch
from torch import Tensor

from pretextkit._validation import check_float
from pretextkit.anomaly._scores import AnomalyScores, check_scores
from pretextkit.errors import DataError

__all__ = ["Calibration", "calibrate"]


@dataclass(frozen=True)
class Calibration:
    """Which scores are too high to be normal."""

    threshold: float
    """A score above it is an anomaly."""
    false_positive_rate: float
    """At most so large a share of normal images is above it, on average over calibrations."""
    normal: Tensor = field(repr=False)
    """``n`` normal scores, ascending."""

    def p_values(self, scores: AnomalyScores | Tensor) -> Tensor:
        """Give the chance that a normal image scores as high: ``(1 + #{normal >= score}) / (n + 1)``.

        They are valid whatever the scores are, as long as a new normal image could as well have been one of the
        calibration's (Vovk et al. 2005; Bates et al. 2023, arXiv 2104.08279, for outliers): of normal images, at most
        the share ``p`` gets a p-value of ``p`` or less.

        Args:
            scores: ``m``, of the method that was calibrated.

        Returns:
            ``m``, float64, from ``1 / (n + 1)`` to 1.
        """
        below = torch.searchsorted(self.normal, check_scores(scores).contiguous())  # or it warns
        return (1 + len(self.normal) - below).double() / (len(self.normal) + 1)

    def __str__(self) -> str:
        return (
            f"anomalies score above {self.threshold:.4g}: at most {self.false_positive_rate:.2%} of normal images, "
            f"from {len(self.normal)} of them"
        )


def calibrate(normal: AnomalyScores | Tensor, *, false_positive_rate: float = 0.05) -> Calibration:
    """Choose the lowest threshold that keeps false alarms at a chosen rate, from scores of normal images.

    It is an order statistic of the scores, the ``k``-th highest with ``k = floor(rate (n + 1))``, so that a new normal
    image is above it with a chance of at most ``k / (n + 1)``, exactly, for any method and however few the images: no
    distribution is fitted. An anomaly is what has a p-value of at most the rate. No anomaly is looked at.

    Args:
        normal: ``n`` scores of normal images that the model was not trained on: those it was trained on score too low.
        false_positive_rate: Share of normal images that may be called anomalies, between 0 and 1.

    Returns:
        The threshold, and p-values of any score.

    Raises:
        OptionError: The rate is out of range.
        DataError: There are too few scores for so low a rate, or one is NaN or infinite.
        ShapeError: The scores are not ``n``.

    Example:
        >>> calibration = calibrate(torch.arange(99.0), false_positive_rate=0.05)
        >>> print(calibration)
        anomalies score above 94: at most 5.00% of normal images, from 99 of them
        >>> calibration.p_values(torch.tensor([94.0, 94.5, 1000.0]))
        tensor([0.0600, 0.0500, 0.0100], dtype=torch.float64)
    """
    fix = "0.05 calls 1 in 20 normal images an anomaly."
    false_positive_rate = check_float("false_positive_rate", false_positive_rate, "(0, 1)", fix=fix)
    scores = check_scores(normal).sort().values
    rate = Fraction(repr(false_positive_rate))  # 0.29 means 29/100, and not the float below it
    exceeding = math.floor(rate * (len(scores) + 1))
    if exceeding < 1:
        raise DataError(
            f"at least {math.ceil(1 / rate) - 1} normal scores for a false-positive rate of {false_positive_rate:g}",
            got=len(scores),
            fix="Hold out more normal images, or allow a higher rate.",
        )
    return Calibration(scores[-exceeding].item(), false_positive_rate, scores)
