"""Threshold-free metrics of anomaly detection."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from pretextkit.errors import DataError, ShapeError

__all__ = ["DetectionMetrics", "HasScores", "check_scores", "detection_metrics"]

TRUE_POSITIVE_RATE = 0.95


class HasScores(Protocol):
    """An object with scores, such as :class:`~pretextkit.functional.AnomalyScores`."""

    @property
    def scores(self) -> Tensor:
        """Scores ``n``."""
        ...


class DetectionMetrics(NamedTuple):
    """Metrics of a detector, independent of any threshold."""

    auroc: float
    """Probability that an anomaly scores higher than a normal image; ties count half."""
    average_precision: float
    """Precision averaged over recall; the expectation for a random score is the fraction of anomalies."""
    fpr_at_95: float
    """Fraction of normal images flagged at a threshold that detects at least 95 % of the anomalies."""

    def __str__(self) -> str:
        return (
            f"AUROC {self.auroc:.1%}, average precision {self.average_precision:.1%}, "
            f"FPR at 95 % TPR {self.fpr_at_95:.1%}"
        )


def detection_metrics(normal: HasScores | Tensor, anomalous: HasScores | Tensor) -> DetectionMetrics:
    """Measure how well scores separate normal from anomalous images, or normal from anomalous pixels.

    torchmetrics receives the ranks of the scores. It takes values outside [0, 1] for logits, and the sigmoid of every
    score above 17 is the same float.

    Args:
        normal: Scores ``n`` of normal test images, as a tensor or as an object with an attribute ``scores``, such as
            :class:`~pretextkit.functional.AnomalyScores`. For pixels, pass ``maps[masks == 0]``.
        anomalous: Scores ``m`` of anomalous test images, as a tensor or as an object with an attribute ``scores``.

    Returns:
        AUROC, average precision, and the false-positive rate at a true-positive rate of 95 %.

    Raises:
        DataError: There are no scores, or a score is NaN or infinite.
        ShapeError: The scores are not one-dimensional.

    Example:
        >>> print(detection_metrics(torch.tensor([10.0, 20.0, 30.0]), torch.tensor([25.0, 100.0])))
        AUROC 83.3%, average precision 83.3%, FPR at 95 % TPR 33.3%
    """
    from torchmetrics.functional.classification import binary_auroc, binary_average_precision, binary_roc

    anomalous_scores = check_scores(anomalous)
    scores = torch.cat([check_scores(normal), anomalous_scores])
    ranks = torch.unique(scores, return_inverse=True)[1].double() / len(scores)
    targets = torch.zeros(len(scores), dtype=torch.int64)
    targets[-len(anomalous_scores) :] = 1
    false_positives, true_positives, _ = binary_roc(ranks, targets)
    return DetectionMetrics(
        auroc=binary_auroc(ranks, targets).item(),
        average_precision=binary_average_precision(ranks, targets).item(),
        fpr_at_95=false_positives[true_positives >= TRUE_POSITIVE_RATE].min().item(),
    )


def check_scores(scores: HasScores | Tensor) -> Tensor:
    """Return finite scores ``n`` on the CPU, at least one.

    Raises:
        ShapeError: The scores are not one-dimensional.
        DataError: There are no scores, they are complex, or a score is NaN or infinite.

    Example:
        >>> from pretextkit.functional import AnomalyScores
        >>> check_scores(AnomalyScores(torch.tensor([1.0, 2.0])))
        tensor([1., 2.])
    """
    values = scores if isinstance(scores, Tensor) else scores.scores
    if values.ndim != 1:
        raise ShapeError(
            "scores n",
            got=f"shape {tuple(values.shape)}",
            fix="Take one score of each image: scores.flatten(1).amax(1)."
            if values.ndim > 1
            else "Pass one score for each image.",
        )
    if values.is_complex():
        raise DataError("real scores", got=str(values.dtype), fix="Take their absolute value: scores.abs().")
    if len(values) == 0 or not values.isfinite().all():
        raise DataError(
            "finite scores, at least one",
            got="NaN or inf" if len(values) else "none",
            fix="Check the images.",
        )
    return (values.to(torch.uint8) if values.dtype == torch.bool else values).detach().cpu()
