"""Rows of features that need not fit into memory: worked on in parts, and in a temporary file where they are many."""

from __future__ import annotations

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

__all__ = ["Rows", "Standardized", "allocate", "check_memory", "row_slices"]

NUMBERS_AT_ONCE = 2**22
"""Numbers worked on at once, 16 MiB of float32. As they are as many under every budget, the results are the same."""


class Rows(Protocol):
    """Features ``n d`` of which a few rows are asked for at a time; a tensor is the simplest."""

    @property
    def shape(self) -> torch.Size:
        """Give ``n d``."""
        ...

    def __len__(self) -> int:
        """Count the rows."""
        ...

    def __getitem__(self, rows: slice, /) -> Tensor:
        """Give some rows."""
        ...


@dataclass(frozen=True)
class Standardized:
    """Chosen rows of features, standardized when they are asked for: a copy of all would take as much memory again.

    Example:
        >>> features = torch.tensor([[1.0], [3.0], [5.0]])
        >>> Standardized(features, torch.tensor([2, 0]), mean=torch.tensor([3.0]), std=torch.tensor([2.0]))[:]
        tensor([[ 1.],
                [-1.]])
    """

    features: Tensor
    """``n d``."""
    which: Tensor
    """``m``, int64: numbers of rows."""
    mean: Tensor
    """``d``."""
    std: Tensor
    """``d``."""

    @property
    def shape(self) -> torch.Size:
        """Give ``m d``."""
        return torch.Size((len(self.which), self.features.shape[1]))

    def __len__(self) -> int:
        """Count the chosen rows."""
        return len(self.which)

    def __getitem__(self, rows: slice, /) -> Tensor:
        """Give some of the chosen rows."""
        return self.features[self.which[rows]].sub_(self.mean).div_(self.std)


def row_slices(count: int, width: int) -> Iterator[slice]:
    """Cut ``count`` rows, for each of which ``width`` numbers are held, into parts that fit into memory.

    Example:
        >>> list(row_slices(10, 2**20))
        [slice(0, 4, None), slice(4, 8, None), slice(8, 10, None)]
    """
    step = max(1, NUMBERS_AT_ONCE // max(1, width))
    return (slice(begin, min(begin + step, count)) for begin in range(0, count, step))


def allocate(count: int, width: int, memory: float) -> Tensor:
    """Make room for float32 rows ``n d``: in memory, or in a temporary file where they take more bytes than ``memory``.

    The file is memory-mapped, so that the system reads and writes it as it is used, and goes with the tensor. It has no
    name even while it is there (on Windows, none that outlives the process): no error and no signal leaves it behind.

    Raises:
        OptionError: The disk has too little room.

    Example:
        >>> allocate(3, 2, memory=8).zero_().shape
        torch.Size([3, 2])
    """
    size = 4 * count * width
    if size <= memory:
        return torch.empty(count, width)
    with tempfile.TemporaryFile() as file:
        try:
            if sys.platform == "linux":
                os.posix_fallocate(file.fileno(), 0, size)  # else a full disk would end the process, at a later write
            else:
                file.truncate(size)
        except OSError as error:
            raise OptionError(
                f"room for {size / 1e9:.3g} GB of features in {tempfile.gettempdir()}",
                got=error.strerror,
                fix="Let the environment variable TMPDIR name a folder on a larger disk, or raise memory.",
            ) from error
        mapped = mmap.mmap(file.fileno(), size)
    return torch.frombuffer(mapped, dtype=torch.float32).view(count, width)


def check_memory(memory: object) -> float:
    """Give a budget in bytes.

    Raises:
        OptionError: It is no number above 0.
    """
    return check_float("memory", memory, "(0, inf]", fix="It counts bytes, for example 2e9; the default sets no limit.")
