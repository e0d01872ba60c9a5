"""Images of a map-style dataset, read one by one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Sized
from copy import copy
from functools import partial
from typing import Any

import torch
from torch import Generator, Tensor
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
)

from pretextkit._validation import check_int
from pretextkit.data._class_names import named_classes
from pretextkit.data._collate import (
    ImageBatch,
    collate,
)
from pretextkit.data._items import Split, image_and_label, image_only
from pretextkit.data._resizing import Fit
from pretextkit.data._seeded_dataset import SeededDataset
from pretextkit.data._sources import ImageSource
from pretextkit.data._types import Size
from pretextkit.data._value_range import value_range
from pretextkit.errors import DataError

__all__ = ["DatasetImages"]


class DatasetImages(ImageSource):
    """Images of a map-style dataset, read one by one, by worker processes if asked.

    An item is an image, or a tuple of an image, an integer label and further parts, which are ignored. An image is a
    tensor ``c h w``, an array ``h w c`` or ``h w``, or a PIL image. All must have one size.

    Args:
        dataset: Has ``__len__`` and ``__getitem__``.
        workers: Processes that read ahead; 0 reads in this one.
        white: Value of white, such as 4095 for 12 bits, if the images are neither bytes nor floats in [0, 1]; they
            become floats, and values beyond black and white are clipped. None leaves the images as they are.
        black: Value of black beside ``white``.

    Raises:
        DataError: The dataset is empty, has no length, or gives something else. Batches are checked as they are read.
        OptionError: ``white`` is not above ``black``.

    Example:
        >>> from torch.utils.data import TensorDataset
        >>> source = DatasetImages(TensorDataset(torch.rand(6, 3, 8, 8), torch.arange(6)))
        >>> next(source.batches([torch.tensor([5, 0])])).labels
        tensor([5, 0])
    """

    def __init__(
        self, dataset: Dataset[Any], workers: int = 0, *, white: float | None = None, black: float = 0.0
    ) -> None:
        self._values = value_range(white, black)
        if isinstance(dataset, IterableDataset) or not isinstance(dataset, Sized):
            raise DataError(
                "a map-style dataset, with __len__ and __getitem__",
                got=type(dataset).__name__,
                fix="Read it into a tensor, or pass StreamImages(dataset, length=...).",
            )
        self.dataset, self._length = dataset, len(dataset)
        self.workers = check_int("workers", workers, at_least=0, fix="0 reads in this process.")
        self._split: Split = image_and_label
        self._shape: tuple[Size, Fit] | None = None
        if self._length == 0:
            raise DataError("at least one image", got=f"an empty {type(dataset).__name__}", fix="Check where it looks.")

    def __len__(self) -> int:
        return self._length

    def batches(self, order: Sequence[Tensor]) -> Iterator[ImageBatch]:
        """Read one batch for each tensor of indices in ``order``.

        What random transforms draw depends on the batch's indices and on the last seed of torch's global generator when
        this is called, for any number of workers and any batches before.
        """
        seed = torch.default_generator.initial_seed()  # looks at the generator, and takes nothing from it
        loader = DataLoader(
            SeededDataset(self.dataset, seed),
            batch_sampler=[rows.tolist() for rows in order],
            num_workers=self.workers,
            collate_fn=partial(collate, self._split, values=self._values, shape=self._shape),
            generator=Generator(),  # else the DataLoader draws from the global one
        )
        return iter(loader)

    @property
    def copied_generator(self) -> str | None:
        """Name of a dataset whose workers copy its own random generator; ``None`` without such a dataset.

        In this process, draws from such a generator differ from one reading to the next. In each epoch's workers they
        are the same.
        """
        if self.workers == 0:
            return None
        here = copy(self)
        here.workers = 0
        copied = here.fingerprint() is None and self.fingerprint() is not None
        return type(self.dataset).__name__ if copied else None

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Names of the classes, by label, from ``dataset.classes``; ``None`` without names."""
        return named_classes(self.dataset)

    def _with_dataset(self, dataset: Dataset[Any]) -> DatasetImages:
        """Read another dataset with the same workers and range of values."""
        other = DatasetImages(dataset, self.workers)
        other._values, other._shape = self._values, self._shape
        return other

    def resized(self, size: Size, fit: Fit = "crop") -> DatasetImages:
        """Resize each image, as ``FolderImages`` does; the images of the dataset may differ in size."""
        other = copy(self)
        other._shape = size, fit
        return other

    def without_labels(self) -> DatasetImages:
        """Drop the labels; they are not read."""
        other = copy(self)
        other._split = image_only
        return other
