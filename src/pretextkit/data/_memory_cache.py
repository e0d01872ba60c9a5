"""Decoded images in memory that forked processes share."""

from __future__ import annotations

import os
from mmap import mmap

from pretextkit.data._cached_images import CachedImages, block_length
from pretextkit.data._types import Size

__all__ = ["MemoryCache", "memory_limit"]

MOST = 2_000_000_000
"""Most bytes of images that are kept in memory unasked."""

SHARE = 4
"""They are at most this fraction of the machine's memory."""


class MemoryCache(CachedImages):
    """Images in anonymous memory, which takes space as it is filled, and is freed with the last process that holds it.

    Worker processes fill the memory of the process that forked them. It cannot be sent to others: a pickled copy, as
    for spawned workers, is None.

    Args:
        count: Number of images.
        size: Size of the images.

    Raises:
        OSError: The system grants no memory.

    Example:
        >>> import torch
        >>> cache = MemoryCache(count=10, size=4)
        >>> cache.write(7, torch.full((3, 4, 4), 99, dtype=torch.uint8))
        >>> cache.read(6), cache.read(7)[0, 0]
        (None, tensor([99, 99, 99, 99], dtype=torch.uint8))
    """

    def __init__(self, count: int, size: Size) -> None:
        super().__init__(count, size)
        self._use(mmap(-1, block_length(count, size)))

    def _put(self, start: int, content: bytes) -> None:
        self._map[start : start + len(content)] = content

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        return type(None), ()


def memory_limit() -> int:
    """Return the bytes that decoded images may take: 2 GB, or a quarter of the machine's memory if that is less.

    Example:
        >>> 0 < memory_limit() <= MOST
        True
    """
    try:
        return min(MOST, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // SHARE)
    except (AttributeError, ValueError, OSError):  # Windows has no such function
        return MOST
