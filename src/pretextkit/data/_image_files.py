"""Files of the images of a source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch.utils.data import ConcatDataset, DataLoader, SequentialSampler, Subset

__all__ = ["find_files", "inner_datasets"]


def find_files(images: Any) -> tuple[str, ...] | None:
    """Find the file of each image, in the order of reading; None where images have no files.

    Files are those of folders (also of torchvision's ``ImageFolder``), lists of paths, and of ``Subset``,
    ``ConcatDataset`` and ``DataLoader`` around them, unless a loader shuffles.

    Example:
        >>> from types import SimpleNamespace
        >>> find_files(Subset(SimpleNamespace(paths=(Path("a.png"), Path("b.png"))), [1]))
        ('b.png',)
    """
    if isinstance(images, Subset):
        files = find_files(images.dataset)
        return None if files is None else tuple(files[int(index)] for index in images.indices)
    if isinstance(images, ConcatDataset):
        parts = [find_files(part) for part in images.datasets]
        return None if None in parts else tuple(file for part in parts for file in part or ())
    if isinstance(images, DataLoader):
        in_order = isinstance(images.sampler, SequentialSampler) and not images.drop_last
        return find_files(images.dataset) if in_order else None
    own = _own_files(images)
    if own is not None:
        return own
    inner = getattr(images, "dataset", getattr(images, "source", getattr(images, "loader", None)))
    return None if inner is None else find_files(inner)


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
