"""Decoded images of one size in one block of bytes, of which each is read once it has been written."""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from mmap import mmap

import torch
from torch import Tensor

from pretextkit.data._image_size import height_width
from pretextkit.data._types import Size

__all__ = ["HEADER", "CachedImages", "block_length"]

HEADER = 128
"""Bytes before the marks, for a file's name and key."""

MARK = 8
"""Bytes of the mark of an image: 0 if it is missing, otherwise 1 and the CRC-32 of its pixels."""


class CachedImages(ABC):
    """A block of bytes that several processes read and complete: a header, a mark for each image, and the pixels.

    An image is written before its mark. A mark holds a checksum of the pixels, which is compared when a process first
    reads the image: torn writes and damage are missing images. Processes write equal pixels to equal places, therefore
    they need no lock.

    Args:
        count: Number of images.
        size: Size of the images.
    """

    _map: mmap

    def __init__(self, count: int, size: Size) -> None:
        self.count, self.size = count, size

    def read(self, index: int) -> Tensor | None:
        """Read an image ``3 h w``; None if it is missing or damaged."""
        mark = self._map[HEADER + MARK * index : HEADER + MARK * (index + 1)]
        if mark == bytes(MARK):
            return None
        start = self._start(index)
        pixels = bytearray(self._view[start : start + _bytes(self.size)])
        if not self._checked[index]:
            if mark != _mark(pixels):
                return None
            self._checked[index] = 1
        return torch.frombuffer(pixels, dtype=torch.uint8).view(3, *height_width(self.size))

    def write(self, index: int, image: Tensor) -> None:
        """Write an image ``3 h w``, uint8."""
        pixels = image.contiguous().numpy().tobytes()
        self._checked[index] = 0
        self._put(self._start(index), pixels)
        self._put(HEADER + MARK * index, _mark(pixels))

    @abstractmethod
    def _put(self, start: int, content: bytes) -> None:
        """Write bytes at a position."""

    def _use(self, block: mmap) -> None:
        self._map, self._view, self._checked = block, memoryview(block), bytearray(self.count)

    def _start(self, index: int) -> int:
        return HEADER + MARK * self.count + _bytes(self.size) * index


def block_length(count: int, size: Size) -> int:
    """Return the bytes of a block of images."""
    return HEADER + count * (MARK + _bytes(size))


def _bytes(size: Size) -> int:
    height, width = height_width(size)
    return 3 * height * width


def _mark(pixels: bytes | bytearray) -> bytes:
    return (1 << 32 | zlib.crc32(pixels)).to_bytes(MARK, "little")
