"""Images in, from whatever holds them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from torch import Tensor

__all__ = ["ImageBatch", "ImageSource"]


class ImageBatch(NamedTuple):
    """Images and, where the source has them, labels."""

    images: Tensor
    """``b c h w``, uint8 or float in [0, 1]."""
    labels: Tensor | None
    """``b``, int64, -1 where unlabelled; None when the source has no labels."""


class ImageSource(ABC):
    """Images that can be read in batches."""

    @abstractmethod
    def __len__(self) -> int:
        """Count the images."""

    @abstractmethod
    def batches(self, order: Sequence[Tensor]) -> Iterator[ImageBatch]:
        """Read one batch for each tensor of indices in ``order``."""
