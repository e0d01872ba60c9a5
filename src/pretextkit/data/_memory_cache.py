"""Decoded images in memory that forked processes share."""

from __future__ import annotations

from mmap import mmap
from typing import Any

from pretextkit.data._cached_images import CachedImages, block_length
from pretextkit.data._types import Size

__all__ = ["MEMORY", "MemoryCache"]

MEMORY = 2_000_000_000
"""Most bytes of images that are kept in memory unasked."""


class MemoryCache(CachedImages):
    """Images in anonymous memory, which takes space as it is filled, and is freed with the last process that holds it.

    Worker processes fill the memory of the process that forked them. A copy that was pickled, as for spawned workers,
    begins empty.

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

    def __getstate__(self) -> dict[str, Any]:
        return {"count": self.count, "size": self.size}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]
