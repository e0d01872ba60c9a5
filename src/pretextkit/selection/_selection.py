"""Result of a selection: the images in order, and the table that a person fills in."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from pretextkit._display import Displayed
from pretextkit.data._csv_labels import DELIMITERS
from pretextkit.errors import DataError
from pretextkit.inference._predictions import write_csv

__all__ = ["Selection"]


@dataclass(frozen=True, repr=False)
class Selection(Displayed):
    """Images to label, the most useful first."""

    indices: Tensor = field(repr=False)
    """``n``, int64: numbers of the images."""
    scores: Tensor = field(repr=False)
    """``n``, float32: score of each image at its choice."""
    score: str
    """What the scores are, such as the typicality, or the distance to the nearest image before."""
    method: str
    """Name of the method."""
    files: tuple[str, ...] = field(repr=False)
    """File of every image among which was chosen; its number, as a text, for images without files."""
    labeled: int
    """Number of images that had labels before."""
    duplicates: int
    """Number of images that were left out because they are near-duplicates of others."""

    @property
    def rows(self) -> list[dict[str, str | int | float]]:
        """One row for each chosen image, with ``rank`` from 1, ``file``, ``index`` and the score."""
        return [
            {"rank": rank, "file": self.files[index], "index": index, self.score: round(score, 6)}
            for rank, (index, score) in enumerate(zip(self.indices.tolist(), self.scores.tolist(), strict=True), 1)
        ]

    def to_csv(self, path: str | Path) -> None:
        """Write a table with the columns ``file`` and ``label``, in which a person fills in the labels.

        Names of files are relative to the folder of all images. ``FolderImages(folder, labels=path)`` reads the table;
        images with an empty label are unlabeled, and so are those that the table does not name. A table that has labels
        is never overwritten.

        Raises:
            DataError: The images have no files, or a table at ``path`` has labels already.
        """
        if self.files == tuple(map(str, range(len(self.files)))):
            fix = "Select from a folder, with a backbone. For other images, use indices."
            raise DataError("images with files", got="images without files", fix=fix)
        if done := _filled(Path(path)):
            raise DataError(
                f"a new file, or a table without labels at {path}",
                got=f"{done} label{'' if done == 1 else 's'} in it",
                fix="Choose another name for the new table, and keep both.",
            )
        names = _relative(self.files)
        write_csv(path, ("file", "label"), [{"file": names[i], "label": ""} for i in self.indices.tolist()])

    def display_table(self) -> Sequence[Sequence[str]]:
        """Return a header and a row for each of the first images."""
        rows = self.rows[:10]
        return [["rank", "file", "index", self.score], *([str(cell) for cell in row.values()] for row in rows)]

    def __len__(self) -> int:
        return len(self.indices)

    def __str__(self) -> str:
        notes = [self.method]
        if self.labeled:
            notes.append(f"{self.labeled} labeled")
        if self.duplicates:
            notes.append(f"{self.duplicates} near-duplicate{'' if self.duplicates == 1 else 's'} left out")
        return f"{len(self)} of {len(self.files)} images ({notes[0]}{'; ' * (len(notes) > 1)}{', '.join(notes[1:])})"


def _filled(path: Path) -> int:
    """Count the labels in a table of files and labels; 0 without a table."""
    if not path.exists():
        return 0
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        header, *lines = file.read().splitlines() or [""]
    delimiter = next((each for each in DELIMITERS if each in header), ",")  # a spreadsheet may have changed it
    return sum(any(cell.strip() for cell in row[1:]) for row in csv.reader(lines, delimiter=delimiter))


def _relative(files: Sequence[str]) -> list[str]:
    """Name files relative to the folder that they have in common.

    Example:
        >>> _relative(["photos/cat/1.png", "photos/dog/1.png"])
        ['cat/1.png', 'dog/1.png']
    """
    absolute = [Path(file).absolute() for file in files]
    common = os.path.commonpath([path.parent for path in absolute])
    return [path.relative_to(common).as_posix() for path in absolute]
