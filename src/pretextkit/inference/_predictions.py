"""Predicted classes of images, as a small table."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from pretextkit._atomic import atomic_write
from pretextkit._display import Displayed

__all__ = ["Predictions", "show_table", "table_cells", "write_csv"]

SHOWN = 10
"""Rows of a table that ``print`` shows."""


@dataclass(frozen=True, repr=False)
class Predictions(Displayed):
    """Predicted class of each image, with its probability.

    Example:
        >>> import torch
        >>> print(Predictions(("a.png", "b.png"), torch.tensor([1, 0]), torch.tensor([0.9, 0.7]), ("cat", "dog")))
        file   class  probability
        a.png  dog    0.900
        b.png  cat    0.700
    """

    files: tuple[str, ...] = field(repr=False)
    """File of each image; its number, as a text, for images without files."""
    labels: Tensor = field(repr=False)
    """``n``, int64: numbers of the predicted classes."""
    probabilities: Tensor = field(repr=False)
    """``n``, float32: probability of the predicted class."""
    class_names: tuple[str, ...]
    """Name of each class, by number."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Name of the predicted class of each image."""
        return tuple(self.class_names[label] for label in self.labels.tolist())

    @property
    def rows(self) -> list[dict[str, str | float]]:
        """One row for each image, ``file``, ``class`` and ``probability``; ``pandas.DataFrame(rows)`` takes them."""
        return [
            {"file": file, "class": name, "probability": round(probability, 6)}
            for file, name, probability in zip(self.files, self.classes, self.probabilities.tolist(), strict=True)
        ]

    def to_csv(self, path: str | Path) -> None:
        """Write the rows to a CSV file with a header."""
        write_csv(path, ("file", "class", "probability"), self.rows)

    def __len__(self) -> int:
        return len(self.files)

    def display_line(self) -> str:
        """Return the numbers of images and classes."""
        return f"{len(self)} images, {len(self.class_names)} classes"

    def display_table(self) -> list[list[str]]:
        """Return the first rows."""
        return table_cells(("file", "class", "probability"), self.rows)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.display_line()})"

    def __str__(self) -> str:
        return show_table(("file", "class", "probability"), self.rows)


def write_csv(path: str | Path, columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> None:
    """Write rows to a CSV file in UTF-8 atomically, and create its folder.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     write_csv(Path(folder) / "new" / "table.csv", ["file"], [{"file": "a, b.png"}])
        ...     (Path(folder) / "new" / "table.csv").read_text().splitlines()
        ['file', '"a, b.png"']
    """
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        file.write(table.getvalue().encode("utf-8", "surrogateescape"))  # names of files may be no UTF-8


def show_table(columns: Sequence[str], rows: Sequence[Mapping[str, object]]) -> str:
    """Lay out the first rows of a table in columns.

    Example:
        >>> print(show_table(("file", "distance"), [{"file": "a.png", "distance": 0.25}]))
        file   distance
        a.png  0.250
    """
    table = table_cells(columns, rows)
    widths = [max(len(line[i]) for line in table) for i in range(len(columns))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in table]
    more = len(rows) - SHOWN
    return "\n".join(lines + ([f"… {more:,} more"] if more > 0 else []))


def table_cells(columns: Sequence[str], rows: Sequence[Mapping[str, object]]) -> list[list[str]]:
    """Return a header and the texts of the first rows of a table.

    Example:
        >>> table_cells(("file", "distance"), [{"file": "a.png", "distance": 0.25}])
        [['file', 'distance'], ['a.png', '0.250']]
    """
    return [list(columns), *([_text(row[column]) for column in columns] for row in rows[:SHOWN])]


def _text(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
