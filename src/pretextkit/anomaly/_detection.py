"""How well scores tell anomalies from normal images."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pretextkit.anomaly._scores import AnomalyScores, check_scores

__all__ = ["DetectionMetrics", "detection_metrics"]

TRUE_POSITIVE_RATE = 0.95


class DetectionMetrics(NamedTuple):
    """What a detector's scores are worth, whatever the threshold."""

    auroc: float
    """The chance that an anomaly scores higher than a normal image, ties counting half."""
    average_precision: float
    """Precision averaged over recalls; a random score has the share of anomalies."""
    fpr_at_95: float
    """Share of normal images called anomalies where at least 95 % of the anomalies are found."""

    def __str__(self) -> str:
        return (
            f"AUROC {self.auroc:.1%}, average precision {self.average_precision:.1%}, "
            f"FPR at 95 % TPR {self.fpr_at_95:.1%}"
        )


def detection_metrics(normal: AnomalyScores | Tensor, anomalous: AnomalyScores | Tensor) -> DetectionMetrics:
    """Measure how well scores separate normal from anomalous images, or pixels from pixels.

    Scores go to torchmetrics by their rank: it takes whatever is outside [0, 1] for logits, and their sigmoid makes
    ties of all scores above 17.

    Args:
        normal: ``n`` scores of normal test images; of pixels, ``maps[masks == 0]``.
        anomalous: ``m`` scores of anomalies.

    Returns:
        AUROC, average precision, and the false-positive rate at a true-positive rate of 95 %.

    Raises:
        DataError: There are no scores, or one is NaN or infinite.
        ShapeError: The scores are not ``n`` and ``m``.

    Example:
        >>> print(detection_metrics(torch.tensor([10.0, 20.0, 30.0]), torch.tensor([25.0, 100.0])))
        AUROC 83.3%, average precision 83.3%, FPR at 95 % TPR 33.3%
    """
    from torchmetrics.functional.classification import binary_auroc, binary_average_precision, binary_roc

    strange = check_scores(anomalous)
    scores = torch.cat([check_scores(normal), strange])
    ranks = torch.unique(scores, return_inverse=True)[1].double() / len(scores)
    targets = torch.zeros(len(scores), dtype=torch.int64)
    targets[-len(strange) :] = 1
    false_positives, true_positives, _ = binary_roc(ranks, targets)
    return DetectionMetrics(
        auroc=binary_auroc(ranks, targets).item(),
        average_precision=binary_average_precision(ranks, targets).item(),
        fpr_at_95=false_positives[true_positives >= TRUE_POSITIVE_RATE].min().item(),
    )
