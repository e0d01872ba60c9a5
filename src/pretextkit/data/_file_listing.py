"""Image files below a folder: classes, splits, and the files that are passed over."""

from __future__ import annotations

import os
import re
import warnings
from collections import Counter
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from pretextkit.errors import DataError, DataWarning

__all__ = [
    "Listing",
    "Part",
    "count_suffixes",
    "find_splits",
    "image_suffixes",
    "list_images",
    "warn_of_lost_files",
    "warn_of_splits_in_classes",
]

Part: TypeAlias = Literal["train", "validation", "test"]

NAMES: dict[str, Part] = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "validate", "dev"), "validation"),
    **dict.fromkeys(("test", "tests", "testing", "eval", "evaluation"), "test"),
}
"""Names of split folders, in small letters, and the part of the data that each holds."""

FILLERS = {"set", "split", "data", "images", "image", "imgs", "img", "files", "part", "seg"}
"""Words beside the name of a split, as in ``training_set`` or ``test-images``."""

NOT_IMAGES = {"BUFR", "EPS", "GRIB", "HDF5", "IPTC", "MPEG", "WMF"}
"""Formats that Pillow identifies, but decodes only with another program or not at all."""

COMPANIONS = {
    *(".txt", ".json", ".jsonl", ".csv", ".tsv", ".xml", ".yaml", ".yml", ".toml", ".ini", ".cfg", ".md", ".rst"),
    *(".html", ".htm", ".css", ".js", ".py", ".ipynb", ".sh", ".log", ".pdf", ".doc", ".docx", ".xls", ".xlsx", ".db"),
    *(".sha256", ".md5", ".license", ".cache"),
}
"""Suffixes of notes and annotations that accompany images: counted, but no cause for a warning."""

COMPANION_NAMES = {"readme", "license", "licence", "notice", "authors", "changelog", "makefile", "checksums", "icon\r"}
SYSTEM_FILES = {"thumbs.db", "ehthumbs.db", "desktop.ini"}
COMPANION_FOLDERS = {"ground_truth", "groundtruth", "masks", "annotations", "labels", "__macosx"}

FEW = 0.1
"""Share of files passed over beside those that are read, above which a warning is given."""


class Listing(NamedTuple):
    """Image files below a folder."""

    root: Path
    """Folder of the images or class folders."""
    paths: list[Path]
    """Image files, sorted."""
    classes: tuple[str, ...]
    """Names of the class folders, sorted; also of those without a file that can be read."""
    passed_over: list[tuple[Path, str]]
    """Files and links that are not read, each with the reason."""

    def parts(self) -> list[str]:
        """Give the class folder of each image; an empty text for an image directly in the root."""
        return [parts[0] if len(parts := path.relative_to(self.root).parts) > 1 else "" for path in self.paths]


def image_suffixes() -> set[str]:
    """Ask Pillow for the suffixes of the files that it reads, in small letters.

    Example:
        >>> {".jpg", ".jfif", ".tga", ".png"} <= image_suffixes(), ".mpg" in image_suffixes()
        (True, False)
    """
    from PIL import Image

    known = Image.registered_extensions()  # loads the plug-ins
    return {suffix.lower() for suffix, kind in known.items() if kind in Image.OPEN and kind not in NOT_IMAGES}


def list_images(root: Path) -> Listing:
    """List the image files below ``root``; each linked folder is read once.

    Raises:
        DataError: The folder does not exist, has no images, or has images both directly and in folders.
    """
    if not root.is_dir():
        raise DataError("a folder of images", got=repr(str(root)), fix="Check the path.")
    found, passed_over = _walk(root)
    if not found:
        others = [path for path, _ in passed_over if path.is_file()]
        raise DataError(
            f"images in {root}",
            got=f"{count_suffixes(others)} and no image file" if others else "no file",
            fix="Check the path." if not others else "Convert the files to PNG, or check the path.",
        )
    flat = [path for path in found if path.parent == root]
    if flat and len(flat) < len(found):
        raise DataError(
            f"images directly in {root}, or in one folder for each class",
            got=f"both ({flat[0].name} beside {found[-1].relative_to(root).parts[0]})",
            fix="Move the images into class folders, or the folders elsewhere.",
        )
    classes = () if flat else tuple(sorted(_class_folders(root, found, passed_over)))
    return Listing(root, sorted(found), classes, passed_over)


def find_splits(root: Path) -> dict[Part, Path]:
    """Find the split folders in ``root`` or in a single folder within it, such as ``train``, ``Valid`` and ``testing``.

    The folders are splits if all that hold images have names of splits, because a class of vehicles may be called
    "train"; or if there is a training folder and another split, beside which other folders are reported.

    Returns:
        The folder of each part; empty if ``root`` holds classes or images.

    Raises:
        DataError: Two folders have names of one part, such as ``val`` and ``dev``.
    """
    if not root.is_dir():
        return {}
    found, _ = _walk(root)
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
        warnings.warn(f"{text} {fix}", DataWarning, stacklevel=4)


def count_suffixes(paths: list[Path]) -> str:
    """Count files by suffix, most frequent first.

    Example:
        >>> count_suffixes([Path("a.heic"), Path("b.HEIC"), Path("notes")])
        '2 .heic, 1 without suffix'
    """
    counts = Counter(path.suffix.lower() or "without suffix" for path in paths)
    listed = [f"{count} {suffix}" for suffix, count in counts.most_common(5)]
    return ", ".join(listed + (["…"] if len(counts) > 5 else []))


def warn_of_lost_files(listing: Listing, read: set[str], count: int, skipped: list[Path]) -> None:
    """Warn if classes are without an image, or if many files beside the images are not read.

    Args:
        listing: Files below a folder.
        read: Class folders of which at least one image is read.
        count: Number of images that are read.
        skipped: Image files that cannot be decoded.
    """
    lost = [name for name in listing.classes if name not in read]
    others = [path for path, _ in listing.passed_over if path.is_file() and not _is_companion(path)]
    if lost:
        names = ", ".join(lost[:5]) + (", …" if len(lost) > 5 else "")
        within = [p for p in [*others, *skipped] if p.relative_to(listing.root).parts[0] in lost]
        has = f"has {count_suffixes(within)}" if within else "is empty"
        share = f"{len(lost)} of {len(listing.classes)} classes"
        problem = f"No image is read for {share} in {listing.root}: {names} ({has})"
    elif len(others) > FEW * count and len(others) > 1:
        problem = f"{len(others)} files in {listing.root} are not read beside {count} images: {count_suffixes(others)}"
    else:
        return
    advice = "Convert such files to PNG, or move what is no image elsewhere; FolderImages(...).skipped lists the files."
    warnings.warn(f"{problem}. {advice}", DataWarning, stacklevel=4)


def _walk(root: Path) -> tuple[list[Path], list[tuple[Path, str]]]:
    suffixes = image_suffixes()
    found: list[Path] = []
    passed_over: list[tuple[Path, str]] = []
    seen: set[str] = set()

    def note(error: OSError) -> None:
        passed_over.append((Path(error.filename), f"{type(error).__name__}: {error.strerror}"))

    for folder, folders, names in os.walk(root, followlinks=True, onerror=note):
        real = os.path.realpath(folder)
        if real in seen:
            folders[:] = []
            passed_over.append((Path(folder), "a link to a folder that is read already"))
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if name.startswith(".") or name.lower() in SYSTEM_FILES:
                continue
            path = Path(folder, name)
            if path.suffix.lower() in suffixes:
                found.append(path)
            else:
                suffix = path.suffix.lower()
                passed_over.append((path, f"the suffix {suffix} is of no image" if suffix else "a file without suffix"))
    return found, passed_over


def _class_folders(root: Path, found: list[Path], passed_over: list[tuple[Path, str]]) -> set[str]:
    """Name the class folders, without folders that hold nothing but notes."""
    classes = {path.relative_to(root).parts[0] for path in found}
    notes = {path.relative_to(root).parts[0] for path, _ in passed_over if _is_companion(path)}
    lost = {path.relative_to(root).parts[0] for path, _ in passed_over if not _is_companion(path)}
    for entry in os.scandir(root):
        only_notes = entry.name in notes - lost
        if entry.is_dir() and not entry.name.startswith(".") and not only_notes:
            classes.add(entry.name)
    return classes


def _is_companion(path: Path) -> bool:
    return path.suffix.lower() in COMPANIONS or path.stem.lower() in COMPANION_NAMES


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
        warnings.warn(f"{text} If all are classes, rename {named[0]}.", DataWarning, stacklevel=4)
