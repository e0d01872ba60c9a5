"""Files that are complete or do not exist."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

__all__ = ["atomic_write", "write_json"]


@contextmanager
def atomic_write(path: Path, keep: Path | None = None) -> Iterator[BinaryIO]:
    """Open a file that takes the name ``path`` when it is complete on the disk.

    If the process ends before, ``path`` is still the old file.

    Args:
        path: Name of the file, in an existing folder.
        keep: New name of the old file; by default the old file is lost.

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
            partial.unlink()  # a full disk needs the space
        raise
    with suppress(OSError):  # the names too, if the system can open a folder
        descriptor = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_json(path: Path, values: Any) -> None:
    """Write plain data to a JSON file atomically, and create its folder.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     path = Path(folder) / "results" / "run.json"
        ...     write_json(path, {"accuracy": 0.5})
        ...     json.loads(path.read_text())
        {'accuracy': 0.5}
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        file.write((json.dumps(values, indent=1) + "\n").encode())
