"""Images in one tensor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from typing import Any

import torch
from torch import Tensor

from pretextkit._validation import check_images
from pretextkit.data._collate import (
    ImageBatch,
    read_labels,
    uint8_or_float32,
)
from pretextkit.data._sources import ImageSource
from pretextkit.data._value_range import check_stored_images, value_range

__all__ = ["TensorImages"]


class TensorImages(ImageSource):
    """Images in one tensor, read without workers or a copy; memory-mapped tensors stay on disk.

    Args:
        images: ``n c h w``, uint8 (which stays uint8) or float in [0, 1], or any real numbers beside ``white``; checked
            once, here.
        labels: ``n`` integers, -1 where unlabeled.
        class_names: Names of the classes, by label; None without names.
        white: Value of white, such as 4095 for 12 bits, if the images are neither bytes nor floats in [0, 1]. A
            batch becomes floats, and values beyond black and white are clipped. None leaves the images as they are.
        black: Value of black beside ``white``.

    Raises:
        ShapeError: The images are not ``n c h w``, or the labels not one for each.
        DataError: The images or labels hold something else.
        OptionError: ``white`` is not above ``black``.

    Warns:
        DataWarning: Beside ``white``: many values lie beyond it and ``black``, or all images are dark.

    Example:
        >>> source = TensorImages(torch.zeros(10, 1, 28, 28, dtype=torch.uint8), torch.arange(10))
        >>> [batch.labels for batch in source.batches(torch.tensor([[3, 1], [4, 1]]))]
        [tensor([3, 1]), tensor([4, 1])]
    """

    def __init__(
        self,
        images: Tensor,
        labels: Any = None,
        *,
        class_names: Sequence[str] | None = None,
        white: float | None = None,
        black: float = 0.0,
    ) -> None:
        self._values = value_range(white, black)
        if self._values is None:
            check_images(images)
        else:
            check_stored_images(images, self._values)
        self.images = images
        """The images as they are stored."""
        self._class_names = None if class_names is None else tuple(class_names)
        targets = read_labels(labels, len(images))
        self.labels = None if targets is None else targets.to(images.device)

    def __len__(self) -> int:
        return len(self.images)

    def batches(self, order: Sequence[Tensor]) -> Iterator[ImageBatch]:
        """Read one batch for each tensor of indices in ``order``."""
        for indices in order:
            rows = indices.to(self.images.device)
            labels = None if self.labels is None else self.labels.index_select(0, rows)
            yield ImageBatch(self._read(self.images.index_select(0, rows)), labels)

    def _read(self, stored: Tensor) -> Tensor:
        return uint8_or_float32(stored) if self._values is None else self._values.to_unit(stored)

    def _with_labels(self, labels: Any, class_names: Sequence[str] | None = None) -> TensorImages:
        """Give the same images other labels: ``n`` integers, and the names of the classes."""
        other = copy(self)
        targets = read_labels(labels, len(self.images))
        other.labels = None if targets is None else targets.to(self.images.device)
        other._class_names = None if class_names is None else tuple(class_names)
        return other

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Names of the classes, by label; ``None`` without names."""
        return self._class_names

    def without_labels(self) -> TensorImages:
        """Drop the labels."""
        other = copy(self)
        other.labels = None
        return other

    def in_memory(self) -> TensorImages:
        """Give the source itself; images with a stated range are converted."""
        if self._values is None:
            return self
        unit = torch.cat([self._values.to_unit(chunk) for chunk in torch.split(self.images, 256)])
        return TensorImages(unit, self.labels, class_names=self.class_names)
