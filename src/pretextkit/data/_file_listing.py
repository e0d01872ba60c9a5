"""Image files below a folder: class folders, and the files that are passed over."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from pretextkit.errors import DataError, DataWarning, warn

__all__ = [
    "COMPANION_FOLDERS",
    "EVERY",
    "Listing",
    "count_suffixes",
    "image_suffixes",
    "is_hidden",
    "list_images",
    "walk",
    "warn_of_lost_files",
    "why_not_read",
]

NOT_IMAGES = {"BUFR", "EPS", "GRIB", "HDF5", "IPTC", "MPEG", "WMF"}
"""Formats that Pillow identifies, but decodes only with another program or not at all."""

COMPANIONS = {
    *(".txt", ".json", ".jsonl", ".csv", ".tsv", ".xml", ".yaml", ".yml", ".toml", ".ini", ".cfg", ".md", ".rst"),
    *(".html", ".htm", ".css", ".js", ".py", ".ipynb", ".sh", ".log", ".pdf", ".doc", ".docx", ".xls", ".xlsx", ".db"),
    *(".sha256", ".md5", ".license", ".cache", ".images"),  # the last are our own decoded images
}
"""Suffixes of notes and annotations that accompany images: counted, but no cause for a warning."""

COMPANION_NAMES = {"readme", "license", "licence", "notice", "authors", "changelog", "makefile", "checksums", "icon\r"}
SYSTEM_FILES = {"thumbs.db", "ehthumbs.db", "desktop.ini"}
SYSTEM_FOLDERS = {"__macosx", "$recycle.bin", "system volume information", "@eadir"}
COMPANION_FOLDERS = {"ground_truth", "groundtruth", "masks", "annotations", "labels", "__macosx"}

EVERY: Collection[str] = frozenset({"*"})
"""In place of suffixes: every file but notes and annotations."""

FEW = 0.1
"""Share of files passed over beside those that are read, above which a warning is given."""


class Listing(NamedTuple):
    """Image files in a folder, of a pattern or in a list."""

    root: Path
    """Folder of the images or class folders."""
    paths: list[Path]
    """Image files, sorted; those of a list in its order."""
    folders: tuple[str, ...]
    """Names of the folders in the root, sorted; also of those without a file that can be read."""
    passed_over: list[tuple[Path, str]]
    """Files and links that are not read, each with the reason."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the class folders; empty if an image lies directly in the root."""
        return () if "" in self.parts() else self.folders

    def parts(self) -> list[str]:
        """Give the folder of each image within the root; an empty text for an image directly in the root."""
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


def list_images(root: Path, suffixes: Collection[str] | None = None) -> Listing:
    """List the image files below ``root``; each linked folder is read once.

    Args:
        root: A folder.
        suffixes: Suffixes of image files, in small letters; ``EVERY`` for every file that is no note; None for those
            that Pillow reads.

    Raises:
        DataError: The folder does not exist or has no images.
    """
    if not root.is_dir():
        raise DataError("a folder of images", got=repr(str(root)), fix="Check the path.")
    found, passed_over = walk(root, suffixes)
    if not found:
        others = [path for path, _ in passed_over if path.is_file()]
        raise DataError(
            f"images in {root}",
            got=f"{count_suffixes(others)} and no image file" if others else "no file",
            fix="Check the path." if not others else "Convert the files to PNG, or check the path.",
        )
    return Listing(root, sorted(found), tuple(sorted(_folders(root, found, passed_over))), passed_over)


def count_suffixes(paths: list[Path]) -> str:
    """Count files by suffix, most frequent first.

    Example:
        >>> count_suffixes([Path("a.heic"), Path("b.HEIC"), Path("notes")])
        '2 .heic, 1 without suffix'
    """
    counts = Counter(path.suffix.lower() or "without suffix" for path in paths)
    listed = [f"{count} {suffix}" for suffix, count in counts.most_common(5)]
    return ", ".join(listed + (["…"] if len(counts) > 5 else []))


def warn_of_lost_files(listing: Listing, lost: Sequence[str], count: int, skipped: list[Path]) -> None:
    """Warn if class folders are without an image, or if many files beside the images are not read.

    Args:
        listing: Files below a folder.
        lost: Class folders of which no image is read.
        count: Number of images that are read.
        skipped: Image files that cannot be decoded.
    """
    others = [path for path, _ in listing.passed_over if path.is_file() and not _is_companion(path)]
    if lost:
        names = ", ".join(lost[:5]) + (", …" if len(lost) > 5 else "")
        within = [p for p in [*others, *skipped] if p.relative_to(listing.root).parts[0] in lost]
        has = f"has {count_suffixes(within)}" if within else "is empty"
        share = f"{len(lost)} of {len(listing.folders)} classes"
        problem = f"No image is read for {share} in {listing.root}: {names} ({has})"
    elif len(others) > FEW * count and len(others) > 1:
        problem = f"{len(others)} files in {listing.root} are not read beside {count} images: {count_suffixes(others)}"
    else:
        return
    advice = "Convert such files to PNG, or move what is no image elsewhere; FolderImages(...).skipped lists the files."
    warn(f"{problem}. {advice}", DataWarning, see="files-that-are-not-read")


def walk(root: Path, suffixes: Collection[str] | None = None) -> tuple[list[Path], list[tuple[Path, str]]]:
    """Find the image files below a folder, and the files that are passed over; hidden and system files are neither."""
    suffixes = image_suffixes() if suffixes is None else suffixes
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
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        for name in sorted(names):
            if is_hidden(name):
                continue
            path = Path(folder, name)
            why = why_not_read(path, suffixes)
            if why is None:
                found.append(path)
            else:
                passed_over.append((path, why))
    return found, passed_over


def is_hidden(name: str) -> bool:
    """Whether a file or folder is hidden or of the operating system, such as ``.DS_Store`` and ``Thumbs.db``.

    Example:
        >>> [is_hidden(name) for name in ("._IMG_1.jpg", "Thumbs.db", "__MACOSX", "IMG_1.jpg")]
        [True, True, True, False]
    """
    return name.startswith(".") or name.lower() in SYSTEM_FILES or name.lower() in SYSTEM_FOLDERS


def why_not_read(path: Path, suffixes: Collection[str]) -> str | None:
    """Give the reason for which a file is not read; None if it is an image file."""
    suffix = path.suffix.lower()
    if suffixes is EVERY:
        if _is_companion(path):
            return "notes beside the images"
    elif suffix not in suffixes:
        return f"the suffix {suffix} is of no image" if suffix else "a file without suffix"
    if os.path.islink(path) and not os.path.exists(path):
        return "a link to a file that does not exist"
    return None


def _folders(root: Path, found: list[Path], passed_over: list[tuple[Path, str]]) -> set[str]:
    """Name the folders in the root, without folders that hold nothing but notes."""
    folders = {path.relative_to(root).parts[0] for path in found if path.parent != root}
    notes = {path.relative_to(root).parts[0] for path, _ in passed_over if _is_companion(path)}
    lost = {path.relative_to(root).parts[0] for path, _ in passed_over if not _is_companion(path)}
    for entry in os.scandir(root):
        only_notes = entry.name in notes - lost
        if entry.is_dir() and not is_hidden(entry.name) and not only_notes:
            folders.add(entry.name)
    return folders


def _is_companion(path: Path) -> bool:
    return path.suffix.lower() in COMPANIONS or path.stem.lower() in COMPANION_NAMES
