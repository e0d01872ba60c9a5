"""What every anomaly score gives."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from pretextkit.metrics._detection import check_scores

__all__ = ["AnomalyScores", "check_scores"]


@dataclass(frozen=True)
class AnomalyScores:
    """How strange images are."""

    scores: Tensor
    """``n``, higher is stranger."""
    maps: Tensor | None = field(default=None, repr=False)
    """``n h w``, where each image is strange; None where a method tells nothing about places."""

    def __str__(self) -> str:
        low, middle, high = self.scores.quantile(torch.tensor([0.0, 0.5, 1.0])).tolist()
        return f"{len(self.scores)} anomaly scores from {low:.4g} to {high:.4g}, median {middle:.4g}"
