"""What every probe begins with: features with their labels, and a test part that fits train."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pretextkit.errors import DataError
from pretextkit.evaluation._features import Features, Model, extract_features
from pretextkit.evaluation._storage import row_slices

__all__ = ["labeled_features"]


def labeled_features(model: Model, data: Any, what: str, **options: Any) -> tuple[Mapping[str, Tensor], Tensor]:
    """Extract the features of the labeled images of ``data``.

    Raises:
        DataError: There are no labels.
    """
    features: Features = extract_features(model, data, **options)
    if features.labels is None or not (features.labels >= 0).any():
        raise DataError(
            f"labels for {what}", got="none", fix="Pass a pair (images, labels), or a Dataset of (image, label)."
        )
    keep = torch.nonzero(features.labels >= 0)[:, 0]
    if len(keep) < len(features.labels):
        for values in features.layers.values():
            for rows in row_slices(len(keep), values.shape[1]):
                values[rows] = values[keep[rows]]  # rows only move up, so that no others are lost
    return {name: values[: len(keep)] for name, values in features.layers.items()}, features.labels[keep]
