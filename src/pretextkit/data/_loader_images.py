"""Images of a DataLoader, which decides their order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from functools import partial
from typing import Any

from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    IterableDataset,
    SequentialSampler,
    default_collate,
)

from pretextkit._validation import check_images
from pretextkit.data._class_names import named_classes
from pretextkit.data._collate import (
    ImageBatch,
    collate,
    read_labels,
    rebatch,
    uint8_or_float32,
)
from pretextkit.data._dataset_images import DatasetImages
from pretextkit.data._items import Split, image_and_label, image_only
from pretextkit.data._sources import ImageSource
from pretextkit.data._value_range import ValueRange, value_range
from pretextkit.errors import DataError, OptionError, PretextkitError

__all__ = ["LoaderImages"]


class LoaderImages(ImageSource):
    """Images of a DataLoader, which decides their order.

    Batch ``i`` has as many images as ``order[i]`` asks for, cut from the loader's batches in the loader's own order;
    the indices mean nothing here. A loader that ends too early is started again. So, reading ``len(self)`` images reads
    each once, for any batch size of the loader; ask for batches of :attr:`batch_size` to get its batches as they are.

    Args:
        loader: Gives image tensors, or tuples of an image tensor, a label tensor and further parts, which are ignored.
        white: Value of white, such as 4095 for 12 bits, if the images are neither bytes nor floats in [0, 1]; they
            become floats, and values beyond black and white are clipped. None leaves the images as they are.
        black: Value of black beside ``white``.

    Raises:
        DataError: The loader is empty, or does not know how many images it has.
        OptionError: ``white`` is not above ``black``.

    Example:
        >>> loader = DataLoader(torch.rand(10, 3, 8, 8), batch_size=4)
        >>> [len(batch.images) for batch in LoaderImages(loader).batches(torch.arange(12).split(5))]
        [5, 5, 2]
    """

    def __init__(self, loader: DataLoader[Any], *, white: float | None = None, black: float = 0.0) -> None:
        self._values = value_range(white, black)
        self.loader = loader
        self._split: Split = image_and_label
        self._reader = _collating(loader, self._split, self._values)
        self._length = _count(loader)
        if self._length == 0:
            raise DataError("at least one image", got="an empty DataLoader", fix="Check its dataset and drop_last.")

    @property
    def batch_size(self) -> int | None:
        """Give the loader's own batch size; None where its sampler decides."""
        return self.loader.batch_size

    def __len__(self) -> int:
        return self._length

    def batches(self, order: Sequence[Tensor]) -> Iterator[ImageBatch]:
        """Read one batch of ``len(indices)`` images for each ``indices`` in ``order``."""
        return rebatch(self._stream(), map(len, order))

    @property
    def decides_order(self) -> bool:
        """Whether the source decides the order of its images; always true."""
        return True

    @property
    def fixed_order(self) -> bool:
        """Whether the loader does not shuffle."""
        return isinstance(self.loader.sampler, SequentialSampler)

    @property
    def preferred_batch_size(self) -> int | None:
        """Batch size of the loader."""
        return self.batch_size

    def draws_transforms(self) -> bool:
        """Whether the first items of the loader's dataset differ between readings with different seeds."""
        if isinstance(self.loader.dataset, IterableDataset):
            return False
        try:
            return DatasetImages(self.loader.dataset).draws_transforms()
        except PretextkitError:  # only the loader's own collation makes images of the items
            return False

    def check_unsplit(self) -> None:
        """Refuse a loader with a ``DistributedSampler``.

        Raises:
            OptionError: The loader gives a part of the images only.
        """
        if isinstance(self.loader.sampler, DistributedSampler):
            raise OptionError(
                "the same full loader on every process, because each process takes its own rows of every batch",
                got="a DistributedSampler",
                fix="Pass the dataset itself, and workers=...: each process then reads its own rows only.",
            )

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Names of the classes, by label, from ``loader.dataset.classes``; ``None`` without names."""
        return named_classes(self.loader.dataset)

    def without_labels(self) -> LoaderImages:
        """Drop the labels; they are not read."""
        other = copy(self)
        other._split = image_only
        other._reader = _collating(self.loader, image_only, self._values)
        return other

    def _stream(self) -> Iterator[ImageBatch]:
        while True:
            empty = True
            for item in self._reader:
                empty = False
                if isinstance(item, ImageBatch):
                    yield item
                    continue
                images, labels = self._split(item)
                if self._values is not None:
                    images = self._values.to_unit(images)
                check_images(images)
                yield ImageBatch(uint8_or_float32(images), read_labels(labels, len(images)))
            if empty:
                raise DataError("at least one batch", got="a DataLoader without any", fix="Check its sampler.")


def _collating(loader: DataLoader[Any], split: Split, values: ValueRange | None) -> DataLoader[Any]:
    """Copy a loader without a collation of its own, to collate as for a dataset: missing labels, gray beside RGB."""
    if type(loader) is not DataLoader or loader.collate_fn is not default_collate:
        return loader
    reader = copy(loader)
    reader.collate_fn = partial(collate, split, values=values)
    reader._iterator = None
    return reader


def _count(loader: DataLoader[Any]) -> int:
    sampler = loader.batch_sampler
    try:
        if type(sampler) is BatchSampler:  # what a DataLoader makes of batch_size=, shuffle= and drop_last=
            count = len(loader.sampler)  # type: ignore[arg-type]
            return count - count % sampler.batch_size if sampler.drop_last else count
        return len(loader.dataset)  # type: ignore[arg-type]
    except TypeError as error:
        raise DataError(
            "a DataLoader that knows how many images it has",
            got=f"one over {type(loader.dataset).__name__}",
            fix="Give its dataset a __len__; pass an IterableDataset itself, or StreamImages(dataset, length=...).",
        ) from error
