"""Labels of image files in a table of text: a CSV file."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from pathlib import Path

from pretextkit.data._file_listing import image_suffixes
from pretextkit.errors import DataError, OptionError, unknown_name

__all__ = ["CsvLabels"]

DELIMITERS = (",", ";", "\t", "|")
LABEL_COLUMNS = ("label", "labels", "class", "class_name", "classname", "category", "species", "target")
"""Names of a label column, in small letters, which is chosen among more than two columns."""

SNIFFED = 1000
"""Rows from which delimiter and columns are found."""

Knows = Callable[[str], bool]
"""Whether a cell is the name of an image file."""


@dataclass(frozen=True)
class CsvLabels:
    """A CSV file that names image files and their classes, for :class:`FolderImages`.

    Without options, the column of files is the column most of whose cells name an image. The label is the other column
    of two; of more columns, the one called ``label``, ``class``, ``category``, ``species`` or ``target``. The delimiter
    is that of comma, semicolon, tab and bar with which most rows name an image. The first row is a header if it names
    no image, has no image suffix and no label of another row.

    Args:
        path: The file, in UTF-8, or UTF-16 with a byte order mark. A path that does not exist is looked for in the
            folder of images.
        file: Name or index of the column of files.
        label: Name or index of the column of labels.
        header: Whether the first row names the columns; by default found from its cells. A column given by its name
            needs a header.
        delimiter: Character between two cells; by default found.

    Example:
        >>> CsvLabels("birds.csv", file="photo", label="species").label
        'species'
    """

    path: str | Path
    _: KW_ONLY
    file: str | int | None = None
    label: str | int | None = None
    header: bool | None = None
    delimiter: str | None = None

    def read(self, folder: Path, knows: Knows) -> list[tuple[str, str]]:
        """Read the rows of the table.

        Args:
            folder: Folder of the images.
            knows: Whether a text is the name of an image.

        Returns:
            Name of a file and word for each row; the word is empty if the image is unlabeled.

        Raises:
            DataError: The file cannot be read, or its columns cannot be found.
            UnknownNameError: No column has the given name.
            OptionError: A column or the delimiter has another value.
        """
        path = self._found(folder)
        rows, file = self._table(_text(path), path, knows)
        label = self._label_column(rows, file, path)
        start = 1 if self._has_header(rows, file, label, knows) else 0
        return [
            (row[file].strip(), row[label].strip() if label < len(row) else "")
            for row in rows[start:]
            if file < len(row) and row[file].strip()
        ]

    def _found(self, folder: Path) -> Path:
        for path in (Path(self.path), folder / self.path):
            if path.is_file():
                return path
        raise DataError(
            f"labels in a CSV file, here or in {folder}",
            got=f"no file {str(self.path)!r}",
            fix='Check the path. labels="folders" takes the folders as classes.',
        )

    def _table(self, text: str, path: Path, knows: Knows) -> tuple[list[list[str]], int]:
        """Split the text into cells, and find the column of files."""
        if self.delimiter is not None and (not isinstance(self.delimiter, str) or len(self.delimiter) != 1):
            raise OptionError("a delimiter of one character", got=repr(self.delimiter), fix="Leave it out to find it.")
        tables = [_cells(text, each) for each in ((self.delimiter,) if self.delimiter else DELIMITERS)]
        tables = [rows for rows in tables if rows and max(map(len, rows)) > 1]
        if not tables:
            got = "one column" if text.strip() else "an empty file"
            raise DataError(
                f"a column of files and a column of labels in {path}",
                got=got,
                fix="Name a file in each row, or pass a mapping from file names to classes.",
            )
        if self.file is not None:
            found = [(rows, column) for rows in tables if (column := _column(rows, self.file)) is not None]
            if not found:
                raise _no_column(self.file, tables[0])
            return max(found, key=lambda each: _hits(each[0], each[1], knows))
        candidates = [(rows, column) for rows in tables for column in range(max(map(len, rows)))]
        return max(candidates, key=lambda each: _hits(each[0], each[1], knows))  # the first of equals

    def _label_column(self, rows: list[list[str]], file: int, path: Path) -> int:
        if self.label is not None:
            if (column := _column(rows, self.label)) is None:
                raise _no_column(self.label, rows)
            return column
        width = max(map(len, rows))
        if width == 2:
            return 1 - file
        named = [column for column, cell in enumerate(rows[0]) if cell.strip().lower() in LABEL_COLUMNS]
        if len(named) == 1 and named[0] != file and self.header is not False:
            return named[0]
        first = ", ".join(cell.strip() for cell in rows[0])
        other = _likely_labels(rows, file)
        example = rows[0][other].strip() if other < len(rows[0]) else other
        raise DataError(
            f"one column of labels beside the files in {path}",
            got=f"{width} columns, whose first row is {first}",
            fix=f"Name or number it: labels=pretextkit.data.CsvLabels({str(self.path)!r}, label={example!r}), or "
            f"label={other}.",
        )

    def _has_header(self, rows: list[list[str]], file: int, label: int, knows: Knows) -> bool:
        if self.header is not None:
            return self.header
        if isinstance(self.file, str) or isinstance(self.label, str):
            return True
        name = rows[0][file].strip() if file < len(rows[0]) else ""
        word = rows[0][label].strip() if label < len(rows[0]) else ""
        if knows(name) or Path(name).suffix.lower() in image_suffixes():
            return False
        return word not in {row[label].strip() for row in rows[1:] if label < len(row)}


def _text(path: Path) -> str:
    content = path.read_bytes()
    wide = content[:2] in (b"\xff\xfe", b"\xfe\xff")
    try:
        text = content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        fix = "Save it as CSV in UTF-8, which spreadsheets offer."
        raise DataError(
            f"a text file in UTF-8 at {path}", got=f"bytes of another kind at {error.start}", fix=fix
        ) from None
    if "\0" in text:
        raise DataError(f"a text file at {path}", got="a binary file", fix="Save it as CSV.")
    return text


def _cells(text: str, delimiter: str) -> list[list[str]]:
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    try:
        return [row for row in rows if any(cell.strip() for cell in row)]
    except csv.Error:
        return []


def _hits(rows: list[list[str]], column: int, knows: Knows) -> int:
    return sum(column < len(row) and knows(row[column]) for row in rows[:SNIFFED])


def _likely_labels(rows: list[list[str]], file: int) -> int:
    """Find the column beside the files that looks most like labels: filled, no running number, and with repetitions.

    Example:
        >>> rows = [["id", "photo", "animal"], ["1", "a.png", "cat"], ["2", "b.png", "dog"], ["3", "c.png", "cat"]]
        >>> _likely_labels(rows, 1)
        2
    """

    def flaws(column: int) -> tuple[bool, bool, bool]:
        cells = [row[column].strip() for row in rows[1:SNIFFED] if column < len(row) and row[column].strip()]
        differ = len(set(cells)) == len(cells)
        return not cells, differ and all(cell.isdecimal() for cell in cells), differ

    return min((column for column in range(max(map(len, rows))) if column != file), key=flaws)


def _column(rows: list[list[str]], wanted: str | int) -> int | None:
    """Find a column by its name in the first row or by its index."""
    if isinstance(wanted, int):
        return wanted if 0 <= wanted < max(map(len, rows)) else None
    header = [cell.strip() for cell in rows[0]]
    if wanted in header:
        return header.index(wanted)
    small = [cell.lower() for cell in header]
    return small.index(wanted.lower()) if small.count(wanted.lower()) == 1 else None


def _no_column(wanted: str | int, rows: list[list[str]]) -> Exception:
    if isinstance(wanted, str):
        return unknown_name("column", wanted, [cell.strip() for cell in rows[0]])
    width = max(map(len, rows))
    return OptionError(f"a column from 0 to {width - 1}", got=wanted, fix="The first column is 0.")
