"""Collation of dataset items to batches of images and labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pretextkit._validation import check_images, check_labels
from pretextkit._validation._advice import sizes_fix
from pretextkit.data._image_conversion import image_tensor
from pretextkit.errors import ShapeError

__all__ = ["ImageBatch", "Split", "collate", "concat", "image_and_label", "image_only", "rebatch", "uint8_or_float32"]

Split = Callable[[Any], tuple[Any, Any]]
"""Function from an item to an image (or a batch of images) and its label (or None)."""


class ImageBatch(NamedTuple):
    """Images and their labels."""

    images: Tensor
    """``b c h w``, uint8 or float32 in [0, 1]."""
    labels: Tensor | None
    """``b``, int64, -1 for unlabeled images; None if the source has no labels."""


def image_and_label(item: Any) -> tuple[Any, Any]:
    """Split an item, an image or a tuple (image, label, ...), into image and label."""
    if isinstance(item, tuple | list):
        return item[0], item[1] if len(item) > 1 else None
    return item, None


def image_only(item: Any) -> tuple[Any, Any]:
    """Split an item into its image and None; the other parts of the item are not read."""
    return item[0] if isinstance(item, tuple | list) else item, None


def collate(split: Split, items: list[Any]) -> ImageBatch:
    """Collate items to a batch.

    Raises:
        ShapeError: The images differ in size.
        DataError: An image or a label has a wrong type or value.
    """
    pairs = [split(item) for item in items]
    images = [image_tensor(image) for image, _ in pairs]
    sizes = sorted({tuple(image.shape) for image in images})
    if len(sizes) > 1:
        raise ShapeError(
            "images c h w of one size in a dataset",
            got=" and ".join(map(str, sizes[:3])),
            fix=sizes_fix(sizes),
        )
    batch = torch.stack(images)
    check_images(batch)
    labels = None if pairs[0][1] is None else check_labels([label for _, label in pairs], len(batch))
    return ImageBatch(uint8_or_float32(batch), labels)


def concat(held: ImageBatch | None, more: ImageBatch) -> ImageBatch:
    """Concatenate two batches; ``held`` may be None."""
    if held is None:
        return more
    labels = None if held.labels is None or more.labels is None else torch.cat([held.labels, more.labels])
    return ImageBatch(torch.cat([held.images, more.images]), labels)


def rebatch(stream: Iterator[ImageBatch], sizes: Iterable[int]) -> Iterator[ImageBatch]:
    """Cut a stream of batches into batches of ``sizes`` images.

    Where the stream ends, the last batch may be smaller.

    Example:
        >>> stream = iter([ImageBatch(torch.zeros(4, 1, 2, 2), None)] * 2)
        >>> [len(batch.images) for batch in rebatch(stream, [3, 3, 3])]
        [3, 3, 2]
    """
    buffer: ImageBatch | None = None
    for size in sizes:
        while buffer is None or len(buffer.images) < size:
            more = next(stream, None)
            if more is None:
                if buffer is not None:
                    yield buffer
                return
            buffer = concat(buffer, more)
        labels = buffer.labels
        yield ImageBatch(buffer.images[:size], None if labels is None else labels[:size])
        rest = buffer.images[size:]
        buffer = ImageBatch(rest, None if labels is None else labels[size:]) if len(rest) else None


def uint8_or_float32(images: Tensor) -> Tensor:
    """Convert floats to float32; keep uint8."""
    return images if images.dtype == torch.uint8 else images.float()
