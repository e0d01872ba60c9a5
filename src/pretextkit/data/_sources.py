"""Images that can be read in batches, in one tensor, one by one or by a loader."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence, Sized
from copy import copy
from functools import partial
from typing import Any

import torch
from torch import Generator, Tensor
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    SequentialSampler,
    Subset,
)

from pretextkit._fingerprint import describe_images
from pretextkit._seeding import derived_seed, seeded
from pretextkit._validation import check_images, check_int, check_labels
from pretextkit.data._collate import ImageBatch, Split, collate, image_and_label, image_only, rebatch, uint8_or_float32
from pretextkit.data._seeded_dataset import SeededDataset
from pretextkit.errors import DataError, OptionError

__all__ = ["DatasetImages", "ImageSource", "LoaderImages", "TensorImages", "dataset_class_names"]

_FINGERPRINT_IMAGES = 8
"""Images that the fingerprint of a source describes."""


class ImageSource(ABC):
    """Images that can be read in batches.

    A subclass must have a length and :meth:`batches`; the other methods and properties have defaults.
    """

    @abstractmethod
    def __len__(self) -> int:
        """Count the images."""

    @abstractmethod
    def batches(self, order: Sequence[Tensor]) -> Iterator[ImageBatch]:
        """Read one batch for each tensor of indices in ``order``."""

    def in_order(self, batch_size: int) -> Iterator[ImageBatch]:
        """Read every image once, first to last, ``batch_size`` at a time."""
        batch_size = check_int("batch_size", batch_size, fix="For example 256.")
        return self.batches(torch.split(torch.arange(len(self)), batch_size))

    def without_labels(self) -> ImageSource:
        """Give the same images as a source that has no labels; pretextkit's own sources then do not look at them."""
        return _Unlabeled(self)

    @property
    def decides_order(self) -> bool:
        """Whether the source decides the order of its images and ignores the indices."""
        return False

    @property
    def splits_itself(self) -> bool:
        """Whether each process and worker reads its own part of the images."""
        return False

    @property
    def fixed_order(self) -> bool:
        """Whether the source gives the same order in every epoch."""
        return False

    @property
    def preferred_batch_size(self) -> int | None:
        """Batch size that the source was built with; ``None`` without one."""
        return None

    @property
    def copied_generator(self) -> str | None:
        """Name of a data set whose workers copy its own random generator; ``None`` without such a data set."""
        return None

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Names of the classes, by label; ``None`` without names."""
        return None

    def fingerprint(self) -> str | None:
        """Describe the first images; ``None`` if the order or the content may differ between two readings."""
        if self.decides_order:
            return None
        one, other = self._describe_first(), self._describe_first()
        return one if one == other else None

    def check_unsplit(self) -> None:  # noqa: B027 - most sources have nothing to check
        """Refuse a source of which each process would read a part of its part.

        Raises:
            OptionError: Another tool splits the images among the processes.
        """

    def in_memory(self) -> TensorImages:
        """Read all images, and labels if there are any, into one tensor."""
        batches = list(self.in_order(256))
        labels = [batch.labels for batch in batches if batch.labels is not None]
        images = torch.cat([batch.images for batch in batches])
        return TensorImages(images, torch.cat(labels) if labels else None, class_names=self.class_names)

    def _describe_first(self) -> str:
        with seeded(derived_seed(0, "identity")):  # random transforms draw from the global generator
            first = torch.arange(min(_FINGERPRINT_IMAGES, len(self)))
            return describe_images(next(iter(self.batches([first]))).images)


class TensorImages(ImageSource):
    """Images in one tensor: no workers, no copy of the whole; memory-mapped tensors stay on disk.

    Args:
        images: ``n c h w``, uint8 (which stays uint8) or float in [0, 1]; checked once, here.
        labels: ``n`` integers, -1 where unlabeled.
        class_names: Names of the classes, by label; None without names.

    Raises:
        ShapeError: The images are not ``n c h w``, or the labels not one for each.
        DataError: The images or labels hold something else.

    Example:
        >>> source = TensorImages(torch.zeros(10, 1, 28, 28, dtype=torch.uint8), torch.arange(10))
        >>> [batch.labels for batch in source.batches(torch.tensor([[3, 1], [4, 1]]))]
        [tensor([3, 1]), tensor([4, 1])]
    """

    def __init__(self, images: Tensor, labels: Any = None, *, class_names: Sequence[str] | None = None) -> None:
        check_images(images)
        self.images = images
        self._class_names = None if class_names is None else tuple(class_names)
        self.labels = None if labels is None else check_labels(labels, len(images)).to(images.device)

    def __len__(self) -> int:
        return len(self.images)

    def batches(self, order: Sequence[Tensor]) -> Iterator[ImageBatch]:
        """Read one batch for each tensor of indices in ``order``."""
        for indices in order:
            rows = indices.to(self.images.device)
            labels = None if self.labels is None else self.labels.index_select(0, rows)
            yield ImageBatch(uint8_or_float32(self.images.index_select(0, rows)), labels)

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Names of the classes, by label; ``None`` without names."""
        return self._class_names

    def without_labels(self) -> TensorImages:
        """Give the same images as a source that has no labels."""
        other = copy(self)
        other.labels = None
        return other

    def in_memory(self) -> TensorImages:
        """Give the source itself."""
        return self


class DatasetImages(ImageSource):
    """Images of a map-style data set, read one by one, by worker processes if asked.

    An item is an image, or a tuple of an image, an integer label and whatever else; an image is a tensor ``c h w``, an
    array ``h w c`` or ``h w``, or a PIL image. All must have one size.

    Args:
        dataset: Has ``__len__`` and ``__getitem__``.
        workers: Processes that read ahead; 0 reads in this one.

    Raises:
        DataError: The data set is empty, has no length, or gives something else. Batches are checked as they are read.

    Example:
        >>> from torch.utils.data import TensorDataset
        >>> source = DatasetImages(TensorDataset(torch.rand(6, 3, 8, 8), torch.arange(6)))
        >>> next(source.batches([torch.tensor([5, 0])])).labels
        tensor([5, 0])
    """

    def __init__(self, dataset: Dataset[Any], workers: int = 0) -> None:
        if isinstance(dataset, IterableDataset) or not isinstance(dataset, Sized):
            raise DataError(
                "a map-style data set, with __len__ and __getitem__",
                got=type(dataset).__name__,
                fix="Read it into a tensor, or pass StreamImages(dataset, length=...).",
            )
        self.dataset, self._length = dataset, len(dataset)
        self.workers = check_int("workers", workers, at_least=0, fix="0 reads in this process.")
        self._split: Split = image_and_label
        if self._length == 0:
            raise DataError("at least one image", got=f"an empty {type(dataset).__name__}", fix="Check where it looks.")

    def __len__(self) -> int:
        return self._length

    def batches(self, order: Sequence[Tensor]) -> Iterator[ImageBatch]:
        """Read one batch for each tensor of indices in ``order``.

        What random transforms draw depends on the batch's indices and on the last seed of torch's global generator when
        this is called, whatever the number of workers and the batches before.
        """
        seed = torch.default_generator.initial_seed()  # looks at the generator, and takes nothing from it
        loader = DataLoader(
            SeededDataset(self.dataset, seed),
            batch_sampler=[rows.tolist() for rows in order],
            num_workers=self.workers,
            collate_fn=partial(collate, self._split),
            generator=Generator(),  # else the DataLoader draws from the global one
        )
        return iter(loader)

    @property
    def copied_generator(self) -> str | None:
        """Name of a data set whose workers copy its own random generator; ``None`` without such a data set.

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
        return dataset_class_names(self.dataset)

    def without_labels(self) -> DatasetImages:
        """Give the same images as a source that has no labels: whatever else an item has is not looked at."""
        other = copy(self)
        other._split = image_only
        return other


class LoaderImages(ImageSource):
    """Images of a DataLoader, which decides their order.

    Batch ``i`` has as many images as ``order[i]`` asks for, cut from the loader's batches in the loader's own order;
    the indices mean nothing here. A loader that ends too early is started again. So, reading ``len(self)`` images reads
    each once, whatever the loader's batch size; ask for batches of :attr:`batch_size` to get its batches as they are.

    Args:
        loader: Gives image tensors, or tuples of an image tensor, a label tensor and whatever else.

    Raises:
        DataError: The loader is empty, or does not know how many images it has.

    Example:
        >>> loader = DataLoader(torch.rand(10, 3, 8, 8), batch_size=4)
        >>> [len(batch.images) for batch in LoaderImages(loader).batches(torch.arange(12).split(5))]
        [5, 5, 2]
    """

    def __init__(self, loader: DataLoader[Any]) -> None:
        self.loader = loader
        self._split: Split = image_and_label
        self._length = _count(loader)
        if self._length == 0:
            raise DataError("at least one image", got="an empty DataLoader", fix="Check its data set and drop_last.")

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
        """Whether the source decides the order of its images: always."""
        return True

    @property
    def fixed_order(self) -> bool:
        """Whether the loader does not shuffle."""
        return isinstance(self.loader.sampler, SequentialSampler)

    @property
    def preferred_batch_size(self) -> int | None:
        """Batch size of the loader."""
        return self.batch_size

    def check_unsplit(self) -> None:
        """Refuse a loader with a ``DistributedSampler``.

        Raises:
            OptionError: The loader gives a part of the images only.
        """
        if isinstance(self.loader.sampler, DistributedSampler):
            raise OptionError(
                "the same full loader on every process, because each process takes its own rows of every batch",
                got="a DistributedSampler",
                fix="Pass the data set itself, and workers=...: each process then reads its own rows only.",
            )

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Names of the classes, by label, from ``loader.dataset.classes``; ``None`` without names."""
        return dataset_class_names(self.loader.dataset)

    def without_labels(self) -> LoaderImages:
        """Give the same images as a source that has no labels: whatever else a batch has is not looked at."""
        other = copy(self)
        other._split = image_only
        return other

    def _stream(self) -> Iterator[ImageBatch]:
        while True:
            empty = True
            for item in self.loader:
                empty = False
                images, labels = self._split(item)
                check_images(images)
                yield ImageBatch(
                    uint8_or_float32(images), None if labels is None else check_labels(labels, len(images))
                )
            if empty:
                raise DataError("at least one batch", got="a DataLoader without any", fix="Check its sampler.")


class _Unlabeled(ImageSource):
    """A source without its labels."""

    def __init__(self, source: ImageSource) -> None:
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def batches(self, order: Sequence[Tensor]) -> Iterator[ImageBatch]:
        return (batch._replace(labels=None) for batch in self.source.batches(order))

    @property
    def decides_order(self) -> bool:
        return self.source.decides_order

    @property
    def splits_itself(self) -> bool:
        return self.source.splits_itself

    @property
    def fixed_order(self) -> bool:
        return self.source.fixed_order

    @property
    def preferred_batch_size(self) -> int | None:
        return self.source.preferred_batch_size

    @property
    def copied_generator(self) -> str | None:
        return self.source.copied_generator

    @property
    def class_names(self) -> tuple[str, ...] | None:
        return self.source.class_names

    def fingerprint(self) -> str | None:
        return self.source.fingerprint()

    def check_unsplit(self) -> None:
        self.source.check_unsplit()


def dataset_class_names(dataset: Any) -> tuple[str, ...] | None:
    """Read the names of the classes of a data set from its ``classes``; ``None`` without names.

    A ``Subset`` has the names of its data set, and a ``ConcatDataset`` those of its parts. Names say nothing about
    labels that a ``target_transform`` has changed.

    Raises:
        DataError: The parts of a ``ConcatDataset`` number their classes differently.

    Example:
        >>> from types import SimpleNamespace
        >>> dataset_class_names(SimpleNamespace(classes=["cat", "dog"]))
        ('cat', 'dog')
    """
    if isinstance(dataset, ConcatDataset):
        return _shared_names([dataset_class_names(part) for part in dataset.datasets])
    if isinstance(dataset, Subset):
        return dataset_class_names(dataset.dataset)
    if getattr(dataset, "target_transform", None) is not None:
        return None
    names = getattr(dataset, "classes", None)
    if not isinstance(names, list | tuple) or not names:
        return None
    if all(isinstance(name, tuple) and all(isinstance(each, str) for each in name) for name in names):
        return tuple(", ".join(name) for name in names)  # torchvision's ImageNet and Imagenette have synonyms
    return tuple(names) if all(isinstance(name, str) for name in names) else None


def _shared_names(parts: Sequence[tuple[str, ...] | None]) -> tuple[str, ...] | None:
    named = [part for part in parts if part is not None]
    if not named or len(named) < len(parts):
        return None
    longest = max(named, key=len)
    for part in named:
        if part != longest[: len(part)]:
            raise DataError(
                "parts of a ConcatDataset that number their classes alike",
                got=f"classes {', '.join(longest)} beside {', '.join(part)}",
                fix="Put all images into one folder with one sub-folder for each class, or renumber the labels of the "
                "parts with target_transform.",
            )
    return longest


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
            fix="Give its data set a __len__; pass an IterableDataset itself, or StreamImages(dataset, length=...).",
        ) from error
