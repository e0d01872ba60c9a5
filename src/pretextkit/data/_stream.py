"""Images that come one after another, from shards or anywhere, without an index."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence, Sized
from copy import copy
from functools import partial
from typing import Any

import torch
from torch import Generator, Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from pretextkit._validation import check_int
from pretextkit.data._class_names import named_classes
from pretextkit.data._collate import ImageBatch, collate, rebatch
from pretextkit.data._items import Split, image_and_label, image_only
from pretextkit.data._resizing import Fit
from pretextkit.data._sources import ImageSource
from pretextkit.data._types import Size
from pretextkit.data._value_range import value_range
from pretextkit.errors import DataError

__all__ = ["SPLIT_ADVICE", "StreamImages", "shards_for_this_worker"]

SPLIT_ADVICE = (
    "Let the dataset iterate over pretextkit.data.shards_for_this_worker(all_shards), or, if it is a WebDataset, "
    "split by node and by worker."
)


class StreamImages(ImageSource):
    """Images of an iterable dataset, such as ``webdataset.WebDataset``, which decides their order.

    Batch ``i`` has ``len(order[i])`` images in the order of the dataset; the indices are ignored. Each call starts from
    the beginning of the dataset, and the last batch may be smaller.

    Several workers or processes must split the dataset themselves, because each iterates a full copy: see
    :func:`shards_for_this_worker`. Draws from the global generators of torch and Python depend on torch's seed at the
    time of the call.

    Args:
        dataset: Gives images, or tuples of an image, an integer label and further parts, which are ignored, as for
            :class:`~pretextkit.data.DatasetImages`.
        length: Images in an epoch, of all workers and processes together; by default what ``len(dataset)`` says.
        workers: Processes that read ahead; 0 reads in this one.
        white: Value of white, such as 4095 for 12 bits, if the images are neither bytes nor floats in [0, 1]; they
            become floats, and values beyond black and white are clipped. None leaves the images as they are.
        black: Value of black beside ``white``.

    Raises:
        DataError: The number of images is unknown, or 0.
        OptionError: ``white`` is not above ``black``.

    Example:
        >>> class Grays(IterableDataset):
        ...     def __iter__(self):
        ...         return (torch.full((1, 4, 4), level / 4) for level in range(5))
        >>> source = StreamImages(Grays(), length=5)
        >>> [len(batch.images) for batch in source.in_order(3)]
        [3, 2]
    """

    def __init__(
        self,
        dataset: IterableDataset[Any],
        *,
        length: int | None = None,
        workers: int = 0,
        white: float | None = None,
        black: float = 0.0,
    ) -> None:
        self._values = value_range(white, black)
        if length is None:
            if not isinstance(dataset, Sized):
                raise DataError(
                    "a stream that says how many images it has",
                    got=f"{type(dataset).__name__} without __len__",
                    fix="Pass pretextkit.data.StreamImages(dataset, length=...): a schedule and epochs need it.",
                )
            length = len(dataset)
        length = check_int("length", length, at_least=None, fix="It counts the images of an epoch.")
        if length < 1:
            raise DataError("at least one image in a stream", got=f"length {length}", fix="Check where it looks.")
        self.dataset, self.length = dataset, length
        self.workers = check_int("workers", workers, at_least=0, fix="0 reads in this process.")
        self._split: Split = image_and_label
        self._shape: tuple[Size, Fit] | None = None

    def __len__(self) -> int:
        return self.length

    def batches(self, order: Sequence[Tensor]) -> Iterator[ImageBatch]:
        """Read one batch of ``len(indices)`` images for each ``indices`` in ``order``, while there are any."""
        seed = torch.default_generator.initial_seed()  # looks at the generator, and takes nothing from it
        loader: DataLoader[ImageBatch] = DataLoader(
            self.dataset,
            batch_size=max(map(len, order), default=1),
            num_workers=self.workers,
            collate_fn=partial(collate, self._split, values=self._values, shape=self._shape),
            generator=Generator().manual_seed(seed),
        )
        return rebatch(_parts(loader), map(len, order))

    @property
    def decides_order(self) -> bool:
        """Whether the source decides the order of its images; always true."""
        return True

    @property
    def splits_itself(self) -> bool:
        """Whether each process and worker reads its own part of the images; always true."""
        return True

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Names of the classes, by label, from ``dataset.classes``; ``None`` without names."""
        return named_classes(self.dataset)

    def resized(self, size: Size, fit: Fit = "crop") -> StreamImages:
        """Resize each image, as ``FolderImages`` does; the images of the dataset may differ in size."""
        other = copy(self)
        other._shape = size, fit
        return other

    def without_labels(self) -> StreamImages:
        """Drop the labels; they are not read."""
        other = copy(self)
        other._split = image_only
        return other


def shards_for_this_worker(shards: Sequence[Any], *, shuffle: bool = True) -> list[Any]:
    """Give the shards that are this process's and this worker's to read: each is exactly one's.

    To be called where a dataset begins to iterate. It looks for torch's process group, or torchrun's environment, and
    for the worker of a ``DataLoader``.

    Args:
        shards: All of them, in the same order everywhere.
        shuffle: Change the order first, in another way at each pass and in the same way everywhere.

    Example:
        >>> shards_for_this_worker(["0.tar", "1.tar", "2.tar"], shuffle=False)
        ['0.tar', '1.tar', '2.tar']
    """
    rank, processes = _rank_and_processes()
    info = get_worker_info()
    worker, workers = (info.id, info.num_workers) if info else (0, 1)
    order = list(range(len(shards)))
    if shuffle:
        seed = info.seed - info.id if info else torch.initial_seed()  # alike on all that read together
        order = torch.randperm(len(shards), generator=Generator().manual_seed(seed)).tolist()
    return [shards[place] for place in order[rank * workers + worker :: processes * workers]]


def _rank_and_processes() -> tuple[int, int]:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))  # in a spawned worker


def _parts(loader: DataLoader[ImageBatch]) -> Iterator[ImageBatch]:
    """Read a loader, whose workers give the first batches in turn, and refuse two that give the same.

    Raises:
        DataError: They do, so that each image would come as often as there are workers.
    """
    heads: list[Tensor] = []
    for batch in loader:
        if len(heads) < loader.num_workers:
            if any(torch.equal(batch.images, head) for head in heads):
                raise DataError("another part of the stream for each worker", got="the same images", fix=SPLIT_ADVICE)
            heads.append(batch.images)
        yield batch
