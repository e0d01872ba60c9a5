"""What every anomaly score gives."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from pretextkit.errors import DataError, ShapeError

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


def check_scores(scores: AnomalyScores | Tensor) -> Tensor:
    """Give scores ``n`` on the CPU, at least one and all finite.

    Raises:
        ShapeError: The scores are not ``n``.
        DataError: There are none, they are complex, or one is NaN or infinite.

    Example:
        >>> check_scores(AnomalyScores(torch.tensor([1.0, 2.0])))
        tensor([1., 2.])
    """
    values = scores.scores if isinstance(scores, AnomalyScores) else scores
    if values.ndim != 1:
        raise ShapeError("scores n", got=f"shape {tuple(values.shape)}", fix="Pass one score for each image.")
    if values.is_complex():
        raise DataError("real scores", got=str(values.dtype), fix="Take their absolute value: scores.abs().")
    if len(values) == 0 or not values.isfinite().all():
        raise DataError(
            "finite scores, at least one", got="NaN or inf" if len(values) else "none", fix="Check the images."
        )
    return (values.to(torch.uint8) if values.dtype == torch.bool else values).detach().cpu()
