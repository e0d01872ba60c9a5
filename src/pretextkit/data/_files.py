"""The image files of a folder, of a pattern or of a list."""

from __future__ import annotations

import glob
import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from pretextkit.data._file_listing import Listing, count_suffixes, image_suffixes, is_hidden, list_images, why_not_read
from pretextkit.data._file_options import is_pattern
from pretextkit.data._split_folders import find_splits
from pretextkit.errors import DataError

__all__ = ["find_images"]


def find_images(source: str | Path | Sequence[str | Path], suffixes: Collection[str] | None = None) -> Listing:
    """List the image files of a folder, a pattern or a list of paths.

    Args:
        source: A folder, a pattern or a list of paths.
        suffixes: Suffixes of image files, as for :func:`list_images`.

    Raises:
        DataError: There are none, a folder has several splits, or a listed path is no image file.
    """
    if isinstance(source, str | Path):
        if is_pattern(source):
            return _of_pattern(str(source), suffixes)
        return list_images(_lone_split(Path(source), suffixes), suffixes)
    paths: Any = source
    if not isinstance(paths, Sequence):
        got = type(source).__name__
        raise DataError("the path of a folder, a pattern or a list of paths", got=got, fix="For example 'photos'.")
    return _of_list(source, suffixes)


def _of_pattern(pattern: str, suffixes: Collection[str] | None) -> Listing:
    suffixes = image_suffixes() if suffixes is None else suffixes
    matches = sorted(path for path in map(Path, glob.glob(pattern, recursive=True)) if not path.is_dir())
    reasons = {path: why_not_read(path, suffixes) for path in matches if not is_hidden(path.name)}
    found = [path for path, why in reasons.items() if why is None]
    passed_over = [(path, why) for path, why in reasons.items() if why is not None]
    if not found:
        got = f"{count_suffixes([path for path, _ in passed_over])} and no image file" if passed_over else "no file"
        fix = 'Check the pattern; "**" stands for folders of any depth, as in "photos/**/*.jpg".'
        raise DataError(f"images that match {pattern!r}", got=got, fix=fix)
    return _listing(found, passed_over)


def _of_list(items: Sequence[str | Path], suffixes: Collection[str] | None) -> Listing:
    suffixes = image_suffixes() if suffixes is None else suffixes
    for item in items:
        path = Path(item) if isinstance(item, str | Path) else None
        why = why_not_read(path, suffixes) if path is not None and path.is_file() else "no file"
        if path is None or why is not None:
            got = f"{str(item)!r}: {why}" if path is not None else type(item).__name__
            raise DataError("paths of image files in a list", got=got, fix="Check the path; pass one folder by itself.")
    if not items:
        raise DataError("paths of image files in a list", got="an empty list", fix="Pass at least one.")
    return _listing([Path(item) for item in items], [])


def _listing(paths: list[Path], passed_over: list[tuple[Path, str]]) -> Listing:
    """List files below the folder that all have in common."""
    if len({path.is_absolute() for path in paths}) > 1:
        paths = [path.absolute() for path in paths]
    root = Path(os.path.commonpath([path.parent for path in paths]))
    listing = Listing(root, paths, (), passed_over)
    return listing._replace(folders=tuple(sorted(set(listing.parts()) - {""})))


def _lone_split(root: Path, suffixes: Collection[str] | None) -> Path:
    """Give the folder of a lone split in ``root``, or ``root`` if it has no splits."""
    splits = find_splits(root, suffixes)
    if len(splits) > 1:
        listed = ", ".join(path.name for path in splits.values())
        first = splits.get("train", next(iter(splits.values())))
        raise DataError(
            f"one set of images in {root}",
            got=f"the splits {listed}",
            fix=f"Read one with FolderImages({str(first)!r}), or all with pretextkit.data.load({str(root)!r}).",
        )
    return next(iter(splits.values()), root)
