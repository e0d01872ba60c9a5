"""Split folders, such as ``train`` and ``test``: how they are recognized by their names."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import Literal, TypeAlias

from pretextkit.data._file_listing import COMPANION_FOLDERS, Listing, walk
from pretextkit.errors import DataError, DataWarning, warn

__all__ = ["Part", "find_splits", "warn_of_splits_in_classes"]

Part: TypeAlias = Literal["train", "validation", "test"]

NAMES: dict[str, Part] = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "validate", "dev"), "validation"),
    **dict.fromkeys(("test", "tests", "testing", "eval", "evaluation"), "test"),
}
"""Names of split folders, in small letters, and the part of the data that each holds."""

FILLERS = {"set", "split", "data", "images", "image", "imgs", "img", "files", "part", "seg"}
"""Words beside the name of a split, as in ``training_set`` or ``test-images``."""


def find_splits(root: Path, suffixes: Collection[str] | None = None) -> dict[Part, Path]:
    """Find the split folders in ``root`` or in a single folder within it, such as ``train``, ``Valid`` and ``testing``.

    The folders are splits if all that hold images have names of splits, because a class of vehicles may be called
    "train"; or if there is a training folder and another split, beside which other folders are reported.

    Args:
        root: A folder.
        suffixes: Suffixes of image files, as for :func:`list_images`.

    Returns:
        The folder of each part; empty if ``root`` holds classes or images.

    Raises:
        DataError: Two folders have names of one part, such as ``val`` and ``dev``.
    """
    if not root.is_dir():
        return {}
    found, _ = walk(root, suffixes)
    if any(path.parent == root for path in found):
        return {}
    for depth in (0, 1):
        folders = sorted({path.relative_to(root).parts[depth] for path in found if _depth(path, root) > depth + 1})
        base = root
        if depth:
            above = {path.relative_to(root).parts[0] for path in found}
            if len(above) != 1 or any(_depth(path, root) < 3 for path in found):
                return {}
            base = root / above.pop()
        named = [(folder, part) for folder in folders if (part := _part(folder)) is not None]
        others = [folder for folder in folders if _part(folder) is None]
        nested = _part(root.name) if depth == 0 else None
        if len(folders) == 1 and nested is not None and nested != _part(folders[0]):
            return {}  # the class "train" in the split "test"
        if named and (not others or {"train"} < {part for _, part in named}):
            _warn_of_other_folders(base, [folder for folder, _ in named], others)
            return _unique_parts(base, named)
    return {}


def warn_of_splits_in_classes(listing: Listing) -> None:
    """Warn if every class folder holds splits, as ``cat/train`` and ``cat/test`` do: they are read together."""
    inner: dict[str, set[str]] = {}
    for path in listing.paths:
        top, *rest = path.relative_to(listing.root).parts
        inner.setdefault(top, set()).add(rest[0] if len(rest) > 1 else "")
    parts = [{part for name in names if (part := _part(name)) is not None} for names in inner.values()]
    if parts and all("train" in found and len(found) > 1 for found in parts):
        first = next(iter(inner))
        text = f"The splits within the class folders of {listing.root} are read together, such as those of {first}."
        fix = f"Move the splits above the classes, or read one folder: {str(listing.root / first)!r}."
        warn(f"{text} {fix}", DataWarning, see="split-folders-and-class-folders")


def _depth(path: Path, root: Path) -> int:
    return len(path.relative_to(root).parts)


def _part(folder: str) -> Part | None:
    words = [word for word in re.split(r"[^a-z]+", folder.lower()) if word]
    words = [word.removesuffix("set") or word for word in words if word not in FILLERS]
    return NAMES.get(words[0]) if len(words) == 1 else None


def _unique_parts(root: Path, named: list[tuple[str, Part]]) -> dict[Part, Path]:
    parts: dict[Part, Path] = {}
    for folder, part in named:
        if part in parts:
            raise DataError(
                f"one folder for each of training, validation and test in {root}",
                got=f"{parts[part].name} and {folder}, both of which mean {part}",
                fix=f"Rename or move one of them, or pass one folder alone, such as {root / folder}.",
            )
        parts[part] = root / folder
    return parts


def _warn_of_other_folders(root: Path, named: list[str], others: list[str]) -> None:
    others = [name for name in others if name.lower() not in COMPANION_FOLDERS]
    if others:
        text = (
            f"{root} has the splits {', '.join(named)}; {', '.join(others)} beside them is not read. Move it elsewhere."
        )
        fix = f"If all are classes, rename {named[0]}."
        warn(f"{text} {fix}", DataWarning, see="split-folders-and-class-folders")
