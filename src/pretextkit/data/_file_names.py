"""Image files by the names that people write: with or without folder and suffix."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from pretextkit.errors import DataError

__all__ = ["FileNames"]


COMPARED = 2000
"""Files among which the most similar name is looked for."""


class FileNames:
    """Find image files by name.

    A name is the end of a path: ``1.jpg``, ``cat/1.jpg``, ``photos/cat/1.jpg``, or an absolute path. The suffix may be
    left out. If a name fits several files, it is the path below the root; otherwise it is an error.
    If it fits none, upper and lower case are the same. Both slashes separate folders, and letters with accents are the
    same in both of their Unicode forms.

    Args:
        paths: Image files.
        root: Folder that contains them.

    Example:
        >>> names = FileNames([Path("photos/cat/1.JPG"), Path("photos/dog/2.jpg")], Path("photos"))
        >>> [names.find(name) for name in ("1.JPG", "cat/1", "dog\\\\2.jpg", "1.jpg", "3.jpg")]
        [0, 0, 1, 0, None]
    """

    def __init__(self, paths: Sequence[Path], root: Path) -> None:
        self.root = root
        self._parts = [_parts(path.absolute()) for path in paths]
        depth = len(_parts(root.absolute()))
        self._below = [parts[depth:] for parts in self._parts]
        self._by_name: dict[str, list[int]] = {}
        self._by_folded: dict[str, list[int]] = {}
        for index, parts in enumerate(self._parts):
            name = parts[-1]
            for key in dict.fromkeys((name, PurePosixPath(name).stem)):
                self._by_name.setdefault(key, []).append(index)
                self._by_folded.setdefault(key.casefold(), []).append(index)

    def find(self, name: str | Path) -> int | None:
        """Give the index of a file; None if no file has this name.

        Raises:
            DataError: Several files have this name.
        """
        wanted = _parts(name)
        if not wanted:
            return None
        found = self._matches(wanted)
        if len(found) > 1:
            first, second = ("/".join(self._below[index]) for index in found[:2])
            raise DataError(
                f"names of files that fit one image in {self.root} each",
                got=f"{str(name)!r}, which fits {first} and {second}",
                fix=f"Write the folder too, as in {first!r}.",
            )
        return found[0] if found else None

    def knows(self, name: str | Path) -> bool:
        """Whether a name fits at least one file."""
        wanted = _parts(name)
        return bool(wanted and self._matches(wanted))

    def nearest(self, name: str | Path) -> str | None:
        """Give the most similar file name, for an error."""
        wanted = _parts(name)
        known = {parts[-1].casefold(): parts[-1] for parts in self._parts}
        near = difflib.get_close_matches(wanted[-1].casefold(), list(known)[:COMPARED], n=1) if wanted else []
        return known[near[0]] if near else None

    def _matches(self, wanted: tuple[str, ...]) -> list[int]:
        found = [index for index in self._by_name.get(wanted[-1], []) if _ends_with(self._parts[index], wanted)]
        if not found:
            folded = tuple(part.casefold() for part in wanted)
            candidates = self._by_folded.get(folded[-1], [])
            found = [
                index
                for index in candidates
                if _ends_with(tuple(part.casefold() for part in self._parts[index]), folded)
            ]
        for narrower in (
            [index for index in found if self._parts[index][-1] == wanted[-1]],  # with its suffix
            [index for index in found if _same(self._below[index], wanted)],
        ):
            if len(found) > 1 and narrower:
                found = narrower
        return found


def _parts(name: str | Path) -> tuple[str, ...]:
    """Split a name into folders and file."""
    text = unicodedata.normalize("NFC", str(name).strip()).replace("\\", "/")
    return tuple(part for part in text.split("/") if part not in ("", "."))


def _ends_with(parts: tuple[str, ...], wanted: tuple[str, ...]) -> bool:
    return len(wanted) <= len(parts) and _same(parts[len(parts) - len(wanted) :], wanted)


def _same(parts: tuple[str, ...], wanted: tuple[str, ...]) -> bool:
    return (
        len(parts) == len(wanted)
        and parts[:-1] == wanted[:-1]
        and wanted[-1] in (parts[-1], PurePosixPath(parts[-1]).stem)
    )
