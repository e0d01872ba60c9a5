"""Images that can be read in batches, in one tensor, one by one or by a loader."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence, Sized
from copy import copy
from functools import partial
from itertools import islice
from typing import Any, TypeVar

import torch
from torch import Generator, Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    SequentialSampler,
    default_collate,
)

from pretextkit._fingerprint import describe_images
from pretextkit._seeding import derived_seed, seeded
from pretextkit._validation import check_images, check_int
from pretextkit.data._brightness import watch_brightness
from pretextkit.data._class_names import named_classes
from pretextkit.data._collate import (
    ImageBatch,
    collate,
    concat,
    in_color,
    read_labels,
    rebatch,
    uint8_or_float32,
)
from pretextkit.data._items import Split, image_and_label, image_only
from pretextkit.data._seeded_dataset import SeededDataset
from pretextkit.data._value_range import ValueRange, check_stored_images, value_range
from pretextkit.errors import DataError, OptionError, PretextkitError, ShapeError

__all__ = [
    "DatasetImages",
    "ImageSource",
    "LoaderImages",
    "TensorImages",
    "WrappedSource",
    "retry_in_color",
    "with_accepted_channels",
]

T = TypeVar("T")

_FINGERPRINT_IMAGES = 8
"""Images that the fingerprint of a source describes."""


SCANNED_IMAGES = 4096
"""Images among which an RGB image is looked for, after a failure on gray images."""


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
        """Read every image once, first to last, ``batch_size`` at a time.

        Raises:
            DataError: The source ends before its length says.
        """
        batch_size = check_int("batch_size", batch_size, fix="For example 256.")
        return watch_brightness(_counted(self.batches(torch.split(torch.arange(len(self)), batch_size)), len(self)))

    def without_labels(self) -> ImageSource:
        """Drop the labels; pretextkit's own sources then do not read them."""
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
        """Name of a dataset whose workers copy its own random generator; ``None`` without such a dataset."""
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

    def draws_transforms(self) -> bool:
        """Whether the first images differ between readings with different seeds, as with random transforms.

        False if the source decides the order, because other images may come first.
        """
        return not self.decides_order and self._describe_first() != self._describe_first(seed=1)

    def check_unsplit(self) -> None:  # noqa: B027 - most sources have nothing to check
        """Refuse a source that is already split among processes.

        Raises:
            OptionError: Another tool splits the images among the processes.
        """

    def in_memory(self) -> TensorImages:
        """Read all images, and labels if there are any, into one tensor."""
        return TensorImages(*concat(list(self.in_order(256))), class_names=self.class_names)

    def _describe_first(self, seed: int = 0) -> str:
        with seeded(derived_seed(seed, "identity")):  # random transforms draw from the global generator
            first = torch.arange(min(_FINGERPRINT_IMAGES, len(self)))
            return describe_images(next(iter(self.batches([first]))).images)


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
            collate_fn=partial(collate, self._split, values=self._values),
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
        other._values = self._values
        return other

    def without_labels(self) -> DatasetImages:
        """Drop the labels; they are not read."""
        other = copy(self)
        other._split = image_only
        return other


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


class WrappedSource(ImageSource):
    """A source whose batches are changed, and that otherwise answers like the original."""

    def __init__(self, source: ImageSource) -> None:
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

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


class _Unlabeled(WrappedSource):
    """A source without its labels."""

    def batches(self, order: Sequence[Tensor]) -> Iterator[ImageBatch]:
        return (batch._replace(labels=None) for batch in self.source.batches(order))


class _InColor(WrappedSource):
    """A source whose gray images become RGB."""

    def batches(self, order: Sequence[Tensor]) -> Iterator[ImageBatch]:
        return map(in_color, self.source.batches(order))


def retry_in_color(work: Callable[[ImageSource], T], source: ImageSource) -> T:
    """Do work on a source; if it fails, and the source has gray images beside RGB images, repeat it with RGB alone.

    Only a failure on gray images reads the images again. A module that takes both kinds gets them as they are.

    Example:
        >>> images = [torch.zeros(1, 2, 2), torch.zeros(3, 2, 2)]
        >>> convolution = torch.nn.Conv2d(3, 1, 1)
        >>> def work(source):
        ...     return sum(len(convolution(batch.images)) for batch in source.in_order(1))
        >>> retry_in_color(work, DatasetImages(images))
        2
    """
    watched = _Watched(source)
    try:
        return work(watched)
    except Exception:
        if not (watched.channels == {1, 3} or (watched.channels == {1} and _has_color(source))):
            raise
    return work(_InColor(source))


def with_accepted_channels(source: ImageSource, accepts: Callable[[Tensor], bool]) -> ImageSource:
    """Return a source whose gray images become RGB if a module refuses them, and the source has RGB images too.

    As :func:`retry_in_color`, for work that cannot be repeated from its start.

    Args:
        source: The images.
        accepts: Whether the module takes images ``b 1 h w``; asked once, at the first batch of gray images.

    Example:
        >>> images = [torch.zeros(1, 2, 2), torch.zeros(3, 2, 2)]
        >>> source = with_accepted_channels(DatasetImages(images), lambda images: False)
        >>> [batch.images.shape[1] for batch in source.in_order(1)]
        [3, 3]
    """
    return source if isinstance(source, TensorImages) else _AcceptedChannels(source, accepts)


class _AcceptedChannels(WrappedSource):
    """A source whose gray images become RGB where a module refuses them."""

    def __init__(self, source: ImageSource, accepts: Callable[[Tensor], bool]) -> None:
        super().__init__(source)
        self.accepts = accepts
        self.takes_gray: bool | None = None
        self.has_color = False

    def batches(self, order: Sequence[Tensor]) -> Iterator[ImageBatch]:
        return map(self._convert, self.source.batches(order))

    def _convert(self, batch: ImageBatch) -> ImageBatch:
        if batch.images.shape[1] != 1:
            self.has_color = self.has_color or batch.images.shape[1] == 3
            return batch
        if self.takes_gray is None:
            self.takes_gray = self.accepts(batch.images)
        if self.takes_gray:
            return batch
        if not self.has_color and not self.source.decides_order:  # a loader or stream is being read already
            self.has_color = _has_color(self.source)
        return in_color(batch) if self.has_color else batch


class _Watched(WrappedSource):
    """A source that records the numbers of channels of its batches."""

    def __init__(self, source: ImageSource) -> None:
        super().__init__(source)
        self.channels: set[int] = set()

    def batches(self, order: Sequence[Tensor]) -> Iterator[ImageBatch]:
        return map(self._watch, self.source.batches(order))

    def _watch(self, batch: ImageBatch) -> ImageBatch:
        self.channels.add(batch.images.shape[1])
        return batch


def _has_color(source: ImageSource) -> bool:
    """Look for an RGB image among the first images of a source; False if the images cannot be read."""
    if isinstance(source, TensorImages):
        return False
    try:
        return any(batch.images.shape[1] == 3 for batch in islice(source.in_order(1), SCANNED_IMAGES))
    except PretextkitError:
        return False  # the first error is the one to report


def _collating(loader: DataLoader[Any], split: Split, values: ValueRange | None) -> DataLoader[Any]:
    """Copy a loader without a collation of its own, to collate as for a dataset: missing labels, gray beside RGB."""
    if type(loader) is not DataLoader or loader.collate_fn is not default_collate:
        return loader
    reader = copy(loader)
    reader.collate_fn = partial(collate, split, values=values)
    reader._iterator = None
    return reader


def _counted(batches: Iterator[ImageBatch], count: int) -> Iterator[ImageBatch]:
    """Pass on batches of ``count`` images with a label for each or none, or raise."""
    found = 0
    for batch in batches:
        if batch.labels is not None and len(batch.labels) != len(batch.images):
            raise ShapeError(
                "as many labels as images in a batch",
                got=f"{len(batch.labels)} labels for {len(batch.images)} images",
                fix="Mark unlabeled images with -1.",
            )
        found += len(batch.images)
        yield batch
    if found != count:
        raise DataError(
            f"{count} images, the length of the source",
            got=found,
            fix="Correct its __len__, or the length=... of StreamImages.",
        )


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
