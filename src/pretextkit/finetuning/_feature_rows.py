"""Features in the place of images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor

from pretextkit.data._collate import ImageBatch
from pretextkit.data._sources import ImageSource

__all__ = ["FeatureRows"]


class FeatureRows(ImageSource):
    """Features in the place of images."""

    def __init__(self, features: Tensor, labels: Tensor) -> None:
        self.features, self.labels = features, labels

    def __len__(self) -> int:
        return len(self.features)

    def batches(self, order: Sequence[Tensor]) -> Iterator[ImageBatch]:
        for rows in order:
            yield ImageBatch(self.features[rows], self.labels[rows])
