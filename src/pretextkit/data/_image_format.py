"""Size and channels of the images of a source, and how other images get them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import Dataset

from pretextkit._color import as_float, match_channels
from pretextkit._seeding import derived_seed, seeded
from pretextkit._validation import check_channels, check_int
from pretextkit.data._collate import ImageBatch
from pretextkit.data._dataset_images import DatasetImages
from pretextkit.data._folder import FolderImages
from pretextkit.data._image_conversion import image_tensor, stored_tensor
from pretextkit.data._image_files import inner_datasets
from pretextkit.data._image_size import as_size
from pretextkit.data._items import Split, image_only
from pretextkit.data._resizing import Fit, resize
from pretextkit.data._sources import ImageSource, WrappedSource
from pretextkit.data._types import Size
from pretextkit.data._value_range import ValueRange

__all__ = ["ImageFormat", "in_format"]

SAMPLED = 16
"""Images that are read to find the format."""


@dataclass(frozen=True)
class ImageFormat:
    """Size and channels of the images of a training, and how its images got that shape."""

    height: int
    """Pixels."""
    width: int
    """Pixels."""
    channels: int
    """1 for gray images, 3 for RGB images, or the number of bands."""
    fit: Fit = "crop"
    """How images get another shape, as for :class:`FolderImages`."""

    def __post_init__(self) -> None:
        for name in ("height", "width", "channels"):
            object.__setattr__(self, name, check_int(name, getattr(self, name), of=ImageFormat))

    @classmethod
    def of(cls, source: ImageSource) -> ImageFormat | None:
        """Find the format of a source from its first images; None for features, and for a stream that has ended.

        Example:
            >>> from pretextkit.data._tensor_images import TensorImages
            >>> ImageFormat.of(TensorImages(torch.rand(2, 1, 28, 28)))
            ImageFormat(height=28, width=28, channels=1, fit='crop')
        """
        folder = next((each for each in inner_datasets(source) if isinstance(each, FolderImages)), None)
        with seeded(derived_seed(0, "format")):  # a loader draws from the global generator
            first = next(iter(source.batches([torch.arange(min(SAMPLED, len(source)))])), None)
        if first is None or first.images.ndim != 4:
            return None
        channels, height, width = first.images.shape[1:]
        if folder is not None:
            return cls(height, width, channels, folder.fit)
        if (shape := getattr(source, "_shape", None)) is not None:
            return cls(height, width, channels, shape[1])
        return cls(height, width, channels, "crop" if height == width else "stretch")

    @property
    def size(self) -> Size:
        """Side of square images; height and width of others."""
        return as_size(self.height, self.width)

    def apply(self, images: Tensor) -> Tensor:
        """Resize images ``b c h w``, and convert their channels: gray to RGB or RGB to gray.

        Raises:
            ShapeError: The images have another number of channels, which cannot be converted.

        Example:
            >>> ImageFormat(8, 8, 1).apply(torch.rand(2, 3, 20, 30)).shape
            torch.Size([2, 1, 8, 8])
        """
        if images.shape[2:] != (self.height, self.width):
            images = resize(images, self.size, self.fit)
        if images.shape[1] == self.channels:
            return images
        check_channels(images, self.channels)
        return match_channels(as_float(images) if self.channels == 1 else images, self.channels)


def in_format(source: ImageSource, wanted: ImageFormat | None) -> ImageSource:
    """Give the images of a source another format, without labels; None leaves them as they are.

    Images of a folder are resized once, from the pixels of their files.

    Example:
        >>> from pretextkit.data._tensor_images import TensorImages
        >>> source = in_format(TensorImages(torch.rand(2, 3, 20, 30)), ImageFormat(8, 8, 3))
        >>> next(source.in_order(2)).images.shape
        torch.Size([2, 3, 8, 8])
    """
    if wanted is None:
        return source
    if not isinstance(source, DatasetImages):
        return _Formatted(source, wanted)
    items: Any = source.dataset
    if isinstance(items, FolderImages) and (items.size, items.fit) != (wanted.size, wanted.fit):
        items = copy(items)
        items.size, items.fit = wanted.size, wanted.fit
    formatted: Any = copy(source)
    formatted.dataset, formatted._split = _FormattedItems(items, wanted, source._split, source._values), image_only
    formatted._values = formatted._shape = None  # the items are converted, and resized once
    return cast(ImageSource, formatted)


class _Formatted(WrappedSource):
    """A source whose batches have another format."""

    def __init__(self, source: ImageSource, wanted: ImageFormat) -> None:
        super().__init__(source)
        self.wanted = wanted

    def batches(self, order: Sequence[Tensor]) -> Iterator[ImageBatch]:
        for batch in self.source.batches(order):
            yield ImageBatch(self.wanted.apply(batch.images), None)


class _FormattedItems(Dataset[Tensor]):
    """Images of a dataset in another format, one by one: they may have different sizes."""

    def __init__(self, dataset: Any, wanted: ImageFormat, split: Split, values: ValueRange | None) -> None:
        self.dataset, self.wanted, self.split, self.values = dataset, wanted, split, values

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Tensor:
        image, _ = self.split(self.dataset[index])
        pixels = image_tensor(image) if self.values is None else self.values.to_unit(stored_tensor(image))
        return self.wanted.apply(pixels[None])[0]
