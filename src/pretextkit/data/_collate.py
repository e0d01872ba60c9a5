"""Items of a data set, and batches made of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pretextkit._validation import check_images, check_labels
from pretextkit.data._image_conversion import image_tensor
from pretextkit.errors import ShapeError

__all__ = ["ImageBatch", "Split", "collate", "concat", "image_and_label", "image_only", "uint8_or_float32"]

Split = Callable[[Any], tuple[Any, Any]]
"""How an item becomes an image (or a batch of them) and its label, or None."""


class ImageBatch(NamedTuple):
    """Images and, where the source has them, labels."""

    images: Tensor
    """``b c h w``, uint8 or float32 in [0, 1]."""
    labels: Tensor | None
    """``b``, int64, -1 where unlabeled; None when the source has no labels."""


def image_and_label(item: Any) -> tuple[Any, Any]:
    """Take an item for an image, or a tuple of an image, its label and whatever else."""
    if isinstance(item, tuple | list):
        return item[0], item[1] if len(item) > 1 else None
    return item, None


def image_only(item: Any) -> tuple[Any, Any]:
    """Take the image, and look at nothing beside it."""
    return item[0] if isinstance(item, tuple | list) else item, None


def collate(split: Split, items: list[Any]) -> ImageBatch:
    """Make a batch of items.

    Raises:
        ShapeError: Their images are not of one size.
        DataError: An image or a label is not what it should be.
    """
    pairs = [split(item) for item in items]
    images = [image_tensor(image) for image, _ in pairs]
    sizes = sorted({tuple(image.shape) for image in images})
    if len(sizes) > 1:
        raise ShapeError(
            "images c h w of one size in a data set",
            got=" and ".join(map(str, sizes[:3])),
            fix="Resize them in the data set, or read the folder with FolderImages(root, size=...).",
        )
    batch = torch.stack(images)
    check_images(batch)
    labels = None if pairs[0][1] is None else check_labels([label for _, label in pairs], len(batch))
    return ImageBatch(uint8_or_float32(batch), labels)


def concat(held: ImageBatch | None, more: ImageBatch) -> ImageBatch:
    """Put one batch behind another, if there is one."""
    if held is None:
        return more
    labels = None if held.labels is None or more.labels is None else torch.cat([held.labels, more.labels])
    return ImageBatch(torch.cat([held.images, more.images]), labels)


def uint8_or_float32(images: Tensor) -> Tensor:
    """Leave bytes as they are, and make float32 of other floats."""
    return images if images.dtype == torch.uint8 else images.float()
