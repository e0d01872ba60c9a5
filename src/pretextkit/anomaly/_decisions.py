"""Calibrate scores: p-values and a threshold, estimated from normal images only."""

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
    """A decision rule: a threshold on anomaly scores, and p-values."""

    threshold: float
    """Scores above the threshold are called anomalies."""
    false_positive_rate: float
    """Largest expected fraction of normal images above the threshold, on average over calibrations."""
    normal: Tensor = field(repr=False)
    """``n``, the scores of normal images in ascending order."""

    def p_values(self, scores: AnomalyScores | Tensor) -> Tensor:
        """Compute the probability of a normal score this high: ``(1 + #{normal >= score}) / (n + 1)``.

        The p-values are valid for any distribution of scores if new normal images are exchangeable with those of the
        calibration (Vovk et al. 2005; Bates et al. 2023, arXiv 2104.08279, for outliers): at most a fraction ``p`` of
        normal images gets a p-value of ``p`` or less.

        Args:
            scores: ``m`` scores from the calibrated method.

        Returns:
            ``m``, float64, from ``1 / (n + 1)`` to 1.
        """
        below = torch.searchsorted(self.normal, check_scores(scores).contiguous())  # searchsorted warns otherwise
        return (1 + len(self.normal) - below).double() / (len(self.normal) + 1)

    def __str__(self) -> str:
        return (
            f"anomalies score above {self.threshold:.4g}: at most {self.false_positive_rate:.2%} of normal images, "
            f"from {len(self.normal)} of them"
        )


def calibrate(normal: AnomalyScores | Tensor, *, false_positive_rate: float = 0.05) -> Calibration:
    """Choose the lowest threshold with a given false-positive rate, from scores of normal images.

    The threshold is an order statistic: the ``k``-th highest score, with ``k = floor(rate (n + 1))``. A new normal
    image exceeds it with probability at most ``k / (n + 1)``, for any method and any number of images, because no
    distribution is fitted. Images with a p-value of at most the rate are called anomalies. No anomalous images are
    needed.

    Args:
        normal: ``n`` scores of normal images held out from training; training images score too low.
        false_positive_rate: Fraction of normal images that may be called anomalies, between 0 and 1.

    Returns:
        The threshold, with p-values for new scores.

    Raises:
        OptionError: The rate is out of range.
        DataError: There are too few scores for the rate, or one is NaN or infinite.
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
    rate = Fraction(repr(false_positive_rate))  # 0.29 means 29/100, not the nearest float, which is lower
    exceeding = math.floor(rate * (len(scores) + 1))
    if exceeding < 1:
        raise DataError(
            f"at least {math.ceil(1 / rate) - 1} normal scores for a false-positive rate of {false_positive_rate:g}",
            got=len(scores),
            fix="Hold out more normal images, or allow a higher rate.",
        )
    return Calibration(scores[-exceeding].item(), false_positive_rate, scores)
