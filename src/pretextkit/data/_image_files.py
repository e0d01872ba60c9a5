"""Files of the images of a source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

from pretextkit.errors import DataWarning, warn

__all__ = ["find_files", "inner_datasets", "warn_of_lost_order"]

RANDOM = (RandomSampler, SubsetRandomSampler, WeightedRandomSampler)
"""Samplers of torch that shuffle; those of many processes have ``shuffle``."""


def warn_of_lost_order(images: Any) -> None:
    """Warn if a ``DataLoader`` shuffles or drops images: a result by position then says nothing about its dataset.

    Warns:
        DataWarning: It does.

    Example:
        >>> warn_of_lost_order(DataLoader([1, 2, 3], batch_size=2))
    """
    loader = next((each for each in inner_datasets(images) if isinstance(each, DataLoader)), None)
    if loader is None:
        return
    sampler, dropped = _sampler(loader), _dropped(loader)
    if isinstance(sampler, RANDOM) or getattr(sampler, "shuffle", False) is True:
        warn(
            "The DataLoader shuffles, so row i of the result is not image i of its dataset. Pass loader.dataset, or a "
            "DataLoader with shuffle=False.",
            DataWarning,
            see="rows-in-the-order-of-a-loader",
        )
    if dropped:
        count = f"{dropped} image{'' if dropped == 1 else 's'}"
        warn(
            f"The DataLoader drops {count} because of drop_last=True, and the result has no row for them. Pass "
            "loader.dataset, or a DataLoader with drop_last=False.",
            DataWarning,
            see="rows-in-the-order-of-a-loader",
        )


def find_files(images: Any) -> tuple[str, ...] | None:
    """Find the file of each image, in the order of reading; None where images have no files.

    Files are those of folders (also of torchvision's ``ImageFolder``), lists of paths, and of ``Subset``,
    ``ConcatDataset`` and ``DataLoader`` around them, unless a loader has an order of its own.

    Warns:
        DataWarning: A loader shuffles or drops images, so that neither files nor numbers name them.

    Example:
        >>> from types import SimpleNamespace
        >>> find_files(Subset(SimpleNamespace(paths=(Path("a.png"), Path("b.png"))), [1]))
        ('b.png',)
    """
    warn_of_lost_order(images)
    return _files(images)


def _files(images: Any) -> tuple[str, ...] | None:
    if isinstance(images, Subset):
        files = _files(images.dataset)
        return None if files is None else tuple(files[int(index)] for index in images.indices)
    if isinstance(images, ConcatDataset):
        parts = [_files(part) for part in images.datasets]
        return None if None in parts else tuple(file for part in parts for file in part or ())
    if isinstance(images, DataLoader):
        files = _files(images.dataset) if isinstance(_sampler(images), SequentialSampler) else None
        return None if files is None else files[: len(files) - _dropped(images)]
    own = _own_files(images)
    if own is not None:
        return own
    inner = getattr(images, "dataset", getattr(images, "source", getattr(images, "loader", None)))
    return None if inner is None else _files(inner)


def _sampler(loader: DataLoader[Any]) -> Any:
    """Find the sampler that decides the order of a loader, also within a ``BatchSampler`` of the user."""
    batches = loader.batch_sampler
    return loader.sampler if batches is None else getattr(batches, "sampler", batches)


def _dropped(loader: DataLoader[Any]) -> int:
    """Count the images that a loader leaves out at its end."""
    batches = loader.batch_sampler
    if type(batches) is not BatchSampler or not batches.drop_last:
        return 0
    try:
        return len(batches.sampler) % batches.batch_size  # type: ignore[arg-type]
    except TypeError:  # a sampler without a length
        return 0


def inner_datasets(images: Any) -> list[Any]:
    """List a source and what it wraps, outermost first.

    Example:
        >>> from types import SimpleNamespace
        >>> len(inner_datasets(SimpleNamespace(dataset=SimpleNamespace())))
        2
    """
    found = [images]
    for name in ("dataset", "source", "loader"):
        if (inner := getattr(images, name, None)) is not None:
            return found + inner_datasets(inner)
    if isinstance(images, ConcatDataset):
        return found + inner_datasets(images.datasets[0])
    return found


def _own_files(images: Any) -> tuple[str, ...] | None:
    """Files of a folder, an ``ImageFolder`` or a list of images."""
    for name in ("paths", "samples", "items"):
        listed = getattr(images, name, None)
        if not isinstance(listed, list | tuple) or not listed:
            continue
        if all(isinstance(each, list | tuple) and len(each) == 2 for each in listed):
            listed = [each[0] for each in listed]
        if all(isinstance(each, str | Path) for each in listed):
            return tuple(map(str, listed))
    return None
