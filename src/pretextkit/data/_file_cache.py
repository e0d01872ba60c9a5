"""Decoded images in one memory-mapped file, which several processes read and complete."""

from __future__ import annotations

import errno
import hashlib
import json
import mmap
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from pretextkit.data._cached_images import HEADER, CachedImages, block_length
from pretextkit.data._types import Size
from pretextkit.errors import DataError

__all__ = ["FileCache", "open_cache"]

MAGIC = b"pretextkit images 1\n"
"""First bytes of a file; the number changes with the layout and with the way images are decoded."""


class FileCache(CachedImages):
    """A file of images of one size. A process keeps the file that it opened, also if another file takes its name.

    Args:
        path: An existing file, built by :func:`open_cache`.
        key: Digest of the images, which the file must have.
        count: Number of images.
        size: Size of the images.
    """

    def __init__(self, path: Path, key: str, count: int, size: Size) -> None:
        super().__init__(count, size)
        self.path, self.key = path, key
        self._open()

    def _open(self) -> None:
        self._file: BinaryIO = self.path.open("r+b", buffering=0)
        try:
            if not _is_valid(self._file, self.key, self.count, self.size):
                raise _Stale
            self._use(mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ))
        except BaseException:
            self._file.close()
            raise

    def __del__(self) -> None:
        if (file := self.__dict__.get("_file")) is not None:
            file.close()

    def write(self, index: int, image: Tensor) -> None:
        """Write an image ``3 h w``, uint8.

        Raises:
            DataError: The file cannot be written, for example because the disk is full.
        """
        try:
            super().write(index, image)
        except OSError as error:
            raise _no_space(self.path, error, image.numel()) from error

    def _put(self, start: int, content: bytes) -> None:
        if hasattr(os, "pwrite"):  # forked processes share one position
            while content:
                written = os.pwrite(self._file.fileno(), content, start)
                content, start = content[written:], start + written
        else:
            self._file.seek(start)
            while content:
                content = content[self._file.write(content) :]

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "key": self.key, "count": self.count, "size": self.size}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        try:
            self._open()
        except (_Stale, OSError):
            _build(self.path, self.key, self.count, self.size)
            self._open()


class _Stale(Exception):
    """A file belongs to other images, or is damaged."""


def open_cache(
    folder: Path, source: Sequence[str], paths: Sequence[Path], size: Size, options: Sequence[object]
) -> FileCache:
    """Open the cache of image files in a folder; build an empty one if there is none, or if it is stale or damaged.

    Args:
        folder: Folder of caches, which is created.
        source: Texts that name the set; another file is kept for another set, size or other options.
        paths: The image files; a cache is stale if the path, size or time of one has changed.
        size: Size of the images.
        options: Other options of decoding.

    Raises:
        DataError: There is no space, or the folder cannot be written.
    """
    import PIL

    options = [size, *options]
    name = f"{_digest([list(source), options])[:16]}.images"
    files = [(str(path.absolute()), (found := path.stat()).st_size, found.st_mtime_ns) for path in paths]
    key = _digest([files, options, PIL.__version__, torch.__version__])
    path = folder / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError, _Stale):
            return FileCache(path, key, len(paths), size)
        _build(path, key, len(paths), size)
        return FileCache(path, key, len(paths), size)
    except OSError as error:
        raise _no_space(path, error, block_length(len(paths), size)) from error


def _build(path: Path, key: str, count: int, size: Size) -> None:
    """Write a file without images, which takes its name when it is complete."""
    total = block_length(count, size)
    with suppress(OSError):
        path.unlink()  # a stale file; its space is needed
    free = shutil.disk_usage(path.parent).free
    if total > free:
        raise _no_space(path, None, total)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            file.write((MAGIC + key.encode()).ljust(HEADER, b"\0"))
            file.truncate(total)
            if hasattr(os, "posix_fallocate"):
                _allocate(file.fileno(), total)
        os.replace(partial, path)
    except BaseException:
        with suppress(OSError):
            partial.unlink()
        raise


def _allocate(descriptor: int, total: int) -> None:
    """Reserve the space of a file, so that a full disk is found at once."""
    try:
        os.posix_fallocate(descriptor, 0, total)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS):  # a file system that cannot
            raise


def _is_valid(file: BinaryIO, key: str, count: int, size: Size) -> bool:
    file.seek(0)
    header = file.read(HEADER)
    return header == (MAGIC + key.encode()).ljust(HEADER, b"\0") and os.fstat(file.fileno()).st_size == block_length(
        count, size
    )


def _digest(values: object) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()


def _no_space(path: Path, error: OSError | None, needed: int) -> DataError:
    if error is None or error.errno in (errno.ENOSPC, errno.EDQUOT):
        free = shutil.disk_usage(path.parent).free
        got = f"{free / 1e6:,.0f} MB free"
        fix = "Choose a smaller size, another folder for cache, or no cache."
        return DataError(f"{needed / 1e6:,.0f} MB for a cache of images in {path.parent}", got=got, fix=fix)
    fix = "Choose another folder for cache, or no cache."
    got = f"{type(error).__name__}: {error.strerror}"
    return DataError(f"a cache that can be written at {path.parent}", got=got, fix=fix)
