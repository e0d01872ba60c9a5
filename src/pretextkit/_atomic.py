"""Files that are there whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

__all__ = ["atomic_write"]


@contextmanager
def atomic_write(path: Path, keep: Path | None = None) -> Iterator[BinaryIO]:
    """Open a file that takes the name ``path`` once it is complete on the disk.

    Whatever ends the process on the way, ``path`` is the old file or the new one.

    Args:
        path: Its folder is there.
        keep: A name for the file that was ``path`` so far, which is lost otherwise.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     path = Path(folder) / "history.csv"
        ...     with atomic_write(path) as file:
        ...         _ = file.write(b"epoch")
        ...         print(path.exists())
        ...     print(path.exists())
        False
        True
    """
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if keep is not None and path.exists():
            os.replace(path, keep)
        os.replace(partial, path)
    except Exception:
        with suppress(OSError):
            partial.unlink()  # a full disk needs the room
        raise
    with suppress(OSError):  # the names too, where the system lets a folder be opened
        descriptor = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
