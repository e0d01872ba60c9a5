"""Options for image files: which values of ``images`` they apply to."""

from __future__ import annotations

import glob
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from pretextkit._validation import check_sequence, described
from pretextkit.data._file_listing import EVERY
from pretextkit.data._types import Size
from pretextkit.errors import OptionError

__all__ = [
    "check_on_error",
    "check_opening",
    "checked_suffixes",
    "describes_files",
    "is_pattern",
    "refuse_file_options",
]


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


def check_opening(opener: Any, cache: Any, white: Any) -> None:
    """Check the option ``open``, and that no file of bytes is asked for beside floats or other channels.

    Raises:
        OptionError: ``opener`` is no function, ``cache`` is neither a folder nor True or False, or a folder stands
            beside ``opener`` or ``white``.
    """
    if opener is not None and (isinstance(opener, type) or not callable(opener)):
        fix = "For example open=numpy.load."
        raise OptionError("open to be a function of a path", got=described(opener), fix=fix)
    if not isinstance(cache, bool | str | Path):
        fix = "True keeps decoded images in memory, a folder keeps them in a file, False decodes them each time."
        raise OptionError("cache to be a folder, True or False", got=described(cache), fix=fix)
    if not isinstance(cache, bool) and (opener is not None or white is not None):
        beside = "open" if opener is not None else "white"
        fix = f"Leave cache or {beside} out."
        raise OptionError("a cache of ordinary files, because it holds bytes", got=f"cache beside {beside}", fix=fix)


def checked_suffixes(suffixes: Any, opener: Any) -> Collection[str] | None:
    """Check the option ``suffixes``, and return small letters; None for those that Pillow reads.

    Raises:
        OptionError: It is no list of suffixes that begin with a dot.

    Example:
        >>> sorted(checked_suffixes([".NPY", ".tif"], None))
        ['.npy', '.tif']
    """
    if suffixes is None:
        return None if opener is None else EVERY
    fix = 'For example suffixes=(".npy",).'
    listed = check_sequence("suffixes", suffixes, fix=fix)
    if not all(isinstance(each, str) and each.startswith(".") for each in listed):
        raise OptionError("suffixes that begin with a dot", got=repr(suffixes), fix=fix)
    return {each.lower() for each in listed}


def refuse_file_options(images: Any, size: Size | None, on_error: str) -> None:
    """Refuse ``size`` and ``on_error`` beside images that are no paths of image files, and no dataset.

    Raises:
        OptionError: One of them is given, and ``images`` are neither.
    """
    check_on_error(on_error)
    name = "size" if size is not None else 'on_error="skip"' if on_error != "raise" else None
    listed = isinstance(images, list | tuple) and all(isinstance(each, str | Path) for each in images)
    if name is None or listed:
        return
    what = f"{name} beside the path of a folder, a pattern or a list of paths"
    what += ", or beside a dataset" if size is not None else ""
    if isinstance(images, Path):
        fix = f"Read it with pretextkit.data.load({str(images)!r}, size=...)." if size is not None else "Leave it out."
        raise OptionError(what, got=f"a {images.suffix} file", fix=fix)
    own = type(images).__name__ == "FolderImages"
    why = ": the images are read already." if hasattr(images, "shape") else ", and let the dataset do it."
    fix = "Give it to FolderImages." if own else f"Leave {name.partition('=')[0]} out{why}"
    raise OptionError(what, got=type(images).__name__, fix=fix)
