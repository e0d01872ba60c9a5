"""Collation of dataset items to batches of images and labels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pretextkit._color import as_float
from pretextkit._validation import check_images, check_labels
from pretextkit._validation._image_advice import sizes_fix
from pretextkit.data._image_conversion import image_tensor, stored_tensor
from pretextkit.data._items import Split
from pretextkit.data._resizing import Fit, resize
from pretextkit.data._types import Size
from pretextkit.data._value_range import ValueRange
from pretextkit.errors import ShapeError

__all__ = [
    "ImageBatch",
    "collate",
    "concat",
    "in_color",
    "join_labels",
    "join_maps",
    "read_labels",
    "rebatch",
    "uint8_or_float32",
]


class ImageBatch(NamedTuple):
    """Images and their labels."""

    images: Tensor
    """``b c h w``, uint8 or float32 in [0, 1]."""
    labels: Tensor | None
    """``b``, int64, -1 for unlabeled images; None if no image of the batch has a label."""


def collate(
    split: Split, items: list[Any], values: ValueRange | None = None, shape: tuple[Size, Fit] | None = None
) -> ImageBatch:
    """Collate items to a batch. An item without a label reads as -1, beside items that have one.

    Args:
        split: Function from an item to an image and a label.
        items: Items of a dataset.
        values: Black and white of the images; None for bytes, and for floats in [0, 1].
        shape: Size to which images are resized, and how; None leaves them as they are.

    Raises:
        ShapeError: The images differ in size.
        DataError: An image or a label has a wrong type or value.

    Example:
        >>> from pretextkit.data._items import image_and_label
        >>> collate(image_and_label, [(torch.zeros(1, 2, 2), 4), torch.zeros(1, 2, 2)]).labels
        tensor([ 4, -1])
    """
    pairs = [split(item) for item in items]
    if values is None:
        found = [image_tensor(image) for image, _ in pairs]
    else:
        found = [values.to_unit(stored_tensor(image)) for image, _ in pairs]
    if shape is not None:
        for image in found:
            check_images(image[None])
        found = [resize(uint8_or_float32(image[None]), *shape)[0] for image in found]
    images = _matched(found, "in a dataset")
    batch = torch.stack(images)
    check_images(batch)
    return ImageBatch(uint8_or_float32(batch), read_labels([label for _, label in pairs], len(batch)))


def read_labels(labels: Any, count: int) -> Tensor | None:
    """Convert the labels of ``count`` images to int64; None in a list is an unlabeled image, -1.

    Returns:
        ``count``, or None if no image has a label.

    Raises:
        ShapeError: There is not exactly one label per image.
        DataError: A label is not an integer, or is below -1.

    Example:
        >>> read_labels([3, None], 2), read_labels([None, None], 2)
        (tensor([ 3, -1]), None)
    """
    if isinstance(labels, list | tuple):
        if len(labels) == count and all(label is None for label in labels):
            return None
        labels = [-1 if label is None else label for label in labels]
    return None if labels is None else check_labels(labels, count)


def concat(batches: Sequence[ImageBatch]) -> ImageBatch:
    """Concatenate batches.

    Images of batches without labels read as -1 beside labeled ones. Gray images become RGB beside RGB images, and
    bytes become floats beside floats.

    Raises:
        ShapeError: The images differ in size.

    Example:
        >>> one, other = ImageBatch(torch.zeros(1, 1, 2, 2), None), ImageBatch(torch.ones(2, 3, 2, 2), torch.arange(2))
        >>> joined = concat([one, other])
        >>> joined.images.shape, joined.labels
        (torch.Size([3, 3, 2, 2]), tensor([-1,  0,  1]))
    """
    if len(batches) == 1:
        return batches[0]
    images = torch.cat(_matched([batch.images for batch in batches], "in all batches"))
    return ImageBatch(images, join_labels([batch.labels for batch in batches], [len(each.images) for each in batches]))


def in_color(batch: ImageBatch) -> ImageBatch:
    """Expand gray images to RGB.

    Example:
        >>> in_color(ImageBatch(torch.zeros(2, 1, 4, 4), None)).images.shape
        torch.Size([2, 3, 4, 4])
    """
    return batch._replace(images=batch.images.expand(-1, 3, -1, -1)) if batch.images.shape[1] == 1 else batch


def join_labels(labels: Sequence[Tensor | None], counts: Sequence[int]) -> Tensor | None:
    """Concatenate the labels of batches of ``counts`` images; a batch without labels reads as -1.

    Example:
        >>> join_labels([None, torch.tensor([5])], [2, 1])
        tensor([-1, -1,  5])
    """
    if all(each is None for each in labels):
        return None
    return torch.cat(
        [torch.full((count,), -1) if each is None else each.cpu() for each, count in zip(labels, counts, strict=True)]
    )


def join_maps(maps: Sequence[Tensor]) -> Tensor:
    """Concatenate maps ``b h w`` of batches of images.

    Raises:
        ShapeError: The maps differ in size, because the images do.
    """
    _check_sizes([each.shape[1:] for each in maps], "images h w of one size, because their maps form one tensor")
    return torch.cat(list(maps))


def rebatch(stream: Iterator[ImageBatch], sizes: Iterable[int]) -> Iterator[ImageBatch]:
    """Cut a stream of batches into batches of ``sizes`` images.

    Where the stream ends, the last batch may be smaller.

    Example:
        >>> stream = iter([ImageBatch(torch.zeros(4, 1, 2, 2), None)] * 2)
        >>> [len(batch.images) for batch in rebatch(stream, [3, 3, 3])]
        [3, 3, 2]
    """
    parts: list[ImageBatch] = []
    for size in sizes:
        while sum(len(part.images) for part in parts) < size:
            more = next(stream, None)
            if more is None:
                if parts:
                    yield concat(parts)
                return
            parts.append(more)
        *full, last = parts
        here = size - sum(len(part.images) for part in full)
        yield concat([*full, _rows(last, slice(here))])
        parts = [_rows(last, slice(here, None))] if here < len(last.images) else []


def _rows(batch: ImageBatch, rows: slice) -> ImageBatch:
    return ImageBatch(batch.images[rows], None if batch.labels is None else batch.labels[rows])


def _matched(images: Sequence[Tensor], where: str) -> list[Tensor]:
    """Give images ``... c h w`` that are joined the same channels and the same kind of pixels."""
    channels = {image.shape[-3] for image in images}
    gray_beside_color = channels == {1, 3}
    shapes = [image.shape[-2:] if gray_beside_color else image.shape[-3:] for image in images]
    _check_sizes(shapes, f"images {'h w' if gray_beside_color else 'c h w'} of one size {where}")
    if gray_beside_color:
        images = [image.expand(*image.shape[:-3], 3, -1, -1) for image in images]
    dtypes = {image.dtype for image in images}
    if len(dtypes) > 1:
        for dtype in dtypes:
            first = next(image for image in images if image.dtype == dtype)
            check_images(
                first if first.ndim == 4 else first[None]
            )  # joining would convert kinds that are refused alone
        images = [as_float(image) for image in images]
    return list(images)


def _check_sizes(shapes: Sequence[torch.Size], expected: str) -> None:
    sizes = sorted({tuple(shape) for shape in shapes})
    if len(sizes) > 1:
        raise ShapeError(
            expected,
            got=" and ".join(map(str, sizes[:3])),
            fix=sizes_fix(sizes) if len(sizes[0]) == 3 else sizes_fix([(3, *size) for size in sizes]),
        )


def uint8_or_float32(images: Tensor) -> Tensor:
    """Convert floats to float32; keep uint8."""
    return images if images.dtype == torch.uint8 else images.float()
