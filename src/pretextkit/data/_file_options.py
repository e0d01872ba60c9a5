"""Options for image files: which values of ``images`` they apply to."""

from __future__ import annotations

import glob
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pretextkit.errors import OptionError

__all__ = ["check_on_error", "describes_files", "is_pattern", "refuse_file_options"]


def is_pattern(source: object) -> bool:
    """Whether a path is a pattern such as ``photos/**/*.jpg``, and not the name of a file or folder.

    Example:
        >>> is_pattern("photos/*.jpg"), is_pattern("photos")
        (True, False)
    """
    return isinstance(source, str | Path) and glob.has_magic(str(source)) and not os.path.exists(source)


def describes_files(labels: Any) -> bool:
    """Whether labels are found by the names of files: a CSV file, a mapping, a function; also None and "folders".

    Example:
        >>> describes_files("labels.csv"), describes_files(["cat", "dog"])
        (True, False)
    """
    from pretextkit.data._csv_labels import CsvLabels

    return labels is None or isinstance(labels, str | Path | CsvLabels | Mapping) or callable(labels)


def check_on_error(on_error: str) -> None:
    """Check the option ``on_error``."""
    if on_error not in ("raise", "skip"):
        raise OptionError('on_error "raise" or "skip"', got=repr(on_error), fix="Choose one of them.")


def refuse_file_options(images: Any, size: int | None, on_error: str) -> None:
    """Refuse ``size`` and ``on_error`` beside images that are no paths of image files.

    Raises:
        OptionError: One of them is given, and ``images`` are no paths.
    """
    check_on_error(on_error)
    name = "size" if size is not None else 'on_error="skip"' if on_error != "raise" else None
    listed = isinstance(images, list | tuple) and all(isinstance(each, str | Path) for each in images)
    if name is None or listed:
        return
    what = f"{name} beside the path of a folder, a pattern or a list of paths"
    if isinstance(images, Path):
        fix = f"Read it with pretextkit.data.load({str(images)!r}, size=...)." if size is not None else "Leave it out."
        raise OptionError(what, got=f"a {images.suffix} file", fix=fix)
    own = type(images).__name__ == "FolderImages"
    fix = "Give it to FolderImages." if own else f"Leave {name.partition('=')[0]} out, and let the dataset do it."
    raise OptionError(what, got=type(images).__name__, fix=fix)
