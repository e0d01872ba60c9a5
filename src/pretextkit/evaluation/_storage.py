"""Storage of features within a memory budget: rows in memory or in temporary files, processed in chunks."""

from __future__ import annotations

import math
import mmap
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from pretextkit._validation import check_float
from pretextkit.errors import OptionError

__all__ = ["FeatureStore", "Rows", "Standardized", "row_slices"]

CHUNK_ENTRIES = 2**22
"""Matrix entries per chunk, 16 MiB of float32. Independent of ``memory``, so results are identical for any limit."""


class Rows(Protocol):
    """Features ``n d`` that are read in slices of rows, such as a tensor."""

    @property
    def shape(self) -> torch.Size:
        """Shape ``n d``."""
        ...

    def __len__(self) -> int:
        """Number of rows."""
        ...

    def __getitem__(self, rows: slice, /) -> Tensor:
        """Read a slice of rows."""
        ...


@dataclass(frozen=True)
class Standardized:
    """Selected rows of features, standardized on access to avoid a copy of all rows.

    Example:
        >>> features = torch.tensor([[1.0], [3.0], [5.0]])
        >>> Standardized(features, torch.tensor([2, 0]), mean=torch.tensor([3.0]), std=torch.tensor([2.0]))[:]
        tensor([[ 1.],
                [-1.]])
    """

    features: Tensor
    """``n d``."""
    rows: Tensor
    """``m``, int64: row numbers."""
    mean: Tensor
    """``d``."""
    std: Tensor
    """``d``."""

    @property
    def shape(self) -> torch.Size:
        """Shape ``m d``."""
        return torch.Size((len(self.rows), self.features.shape[1]))

    def __len__(self) -> int:
        """Number of selected rows."""
        return len(self.rows)

    def __getitem__(self, part: slice, /) -> Tensor:
        """Read and standardize a slice of the selected rows."""
        return self.features[self.rows[part]].sub_(self.mean).div_(self.std)


def row_slices(count: int, width: int) -> Iterator[slice]:
    """Cut ``count`` rows of ``width`` entries each into slices of at most 16 MiB.

    Example:
        >>> list(row_slices(10, 2**20))
        [slice(0, 4, None), slice(4, 8, None), slice(8, 10, None)]
    """
    step = max(1, CHUNK_ENTRIES // max(1, width))
    return (slice(begin, min(begin + step, count)) for begin in range(0, count, step))


class FeatureStore:
    """Allocate float32 rows within a memory budget, and rows beyond it in temporary files.

    Results do not depend on the budget. A file is memory-mapped: the operating system reads and writes its pages on
    demand, and the file disappears with its tensor. It has no name (on Windows, no name that outlives the process), and
    no error and no signal leaves it behind.

    Args:
        memory: Budget in bytes.

    Raises:
        OptionError: ``memory`` is not a number above 0.

    Example:
        >>> store = FeatureStore(memory=100)
        >>> store.allocate(3, 2).shape, store.free
        (torch.Size([3, 2]), 76.0)
    """

    def __init__(self, memory: float = math.inf) -> None:
        fix = "It counts bytes, for example 2e9; the default sets no limit."
        self.free = check_float("memory", memory, "(0, inf]", fix=fix)

    def split(self, parts: int) -> list[FeatureStore]:
        """Divide the budget into equal parts.

        Example:
            >>> [store.free for store in FeatureStore(90).split(3)]
            [30.0, 30.0, 30.0]
        """
        return [FeatureStore(self.free / parts) for _ in range(parts)]

    def allocate(self, count: int, width: int) -> Tensor:
        """Allocate rows ``count width`` that are kept.

        Raises:
            OptionError: The disk has too little room.
        """
        rows = self.scratch(count, width)
        if rows.nbytes <= self.free:
            self.free -= rows.nbytes
        return rows

    def scratch(self, count: int, width: int) -> Tensor:
        """Allocate rows ``count width`` that are dropped before the next allocation.

        Raises:
            OptionError: The disk has too little room.
        """
        size = 4 * count * width
        return torch.empty(count, width, dtype=torch.float32) if size <= self.free else _mapped_rows(count, width)


def _mapped_rows(count: int, width: int) -> Tensor:
    """Map rows ``n d`` of float32 onto a temporary file."""
    size = 4 * count * width
    with tempfile.TemporaryFile() as file:
        try:
            if sys.platform == "linux":
                os.posix_fallocate(file.fileno(), 0, size)  # without it, a full disk kills the process at a later write
            else:
                file.truncate(size)
        except OSError as error:
            raise OptionError(
                f"room for {size / 1e9:.3g} GB of features in {tempfile.gettempdir()}",
                got=error.strerror,
                fix="Set the environment variable TMPDIR to a folder on a larger disk, or raise memory.",
            ) from error
        mapped = mmap.mmap(file.fileno(), size)
    return torch.frombuffer(mapped, dtype=torch.float32).view(count, width)
