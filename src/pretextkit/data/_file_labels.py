"""Labels of image files: from folders, a CSV file, a mapping, a function or a list."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

from pretextkit.data._class_names import number_texts
from pretextkit.data._csv_labels import CsvLabels
from pretextkit.data._file_listing import Listing
from pretextkit.data._file_names import FileNames
from pretextkit.errors import DataError, DataWarning, ShapeError, warn

__all__ = ["FileLabels", "Label", "LabelsOfFiles", "label_files"]

Label: TypeAlias = "str | int | None"
"""Name of a class, or its number; an empty text, -1 and None mean unlabeled."""

LabelsOfFiles: TypeAlias = (
    "Literal[False] | str | Path | CsvLabels | Mapping[Any, Any] | Callable[[Path], Label] | Sequence[Label] | None"
)
"""Where the labels of files come from, as for :class:`FolderImages`."""

NAMED = 5
"""Names, or groups of names, that a warning lists."""

KINDS = (
    'labels "folders", the path of a CSV file, a CsvLabels, a mapping from file to label, a function of the path, '
    "or, beside a list of files, a list"
)


class FileLabels(NamedTuple):
    """Labels of files."""

    numbers: list[int]
    """Label of each file, -1 where unlabeled."""
    classes: tuple[str, ...]
    """Class names; the index of a name is its label. Empty if the labels are numbers."""


def label_files(labels: LabelsOfFiles, listing: Listing, listed: bool) -> FileLabels:
    """Give each file of a listing its label.

    Args:
        labels: As for :class:`FolderImages`, not None.
        listing: The files.
        listed: Whether the files were passed in a list, beside which labels may be a list.

    Raises:
        DataError: The labels have another type, a name fits several files, or all names are unknown.
        ShapeError: There is not one label for each file of a list.

    Warns:
        DataWarning: Some names fit no file, no row of a CSV file has a label, or names of classes differ only by case.
    """
    if labels is False:
        return FileLabels([-1] * len(listing.paths), ())
    if isinstance(labels, str) and labels == "folders":
        return _folder_labels(listing)
    if isinstance(labels, str | Path | CsvLabels):
        return _named_labels(labels if isinstance(labels, CsvLabels) else CsvLabels(labels), listing)
    if isinstance(labels, Mapping):
        return _matched(list(labels.items()), FileNames(listing.paths, listing.root), "the mapping", listing)
    if callable(labels):
        return _numbered([labels(path) for path in listing.paths], "the function of the path")
    if isinstance(labels, Sequence) or hasattr(labels, "tolist"):
        return _in_order(labels, listing, listed)
    raise DataError(KINDS, got=type(labels).__name__, fix='For example labels="labels.csv".')


def _folder_labels(listing: Listing) -> FileLabels:
    if not listing.folders:
        raise DataError(
            f"folders of classes in {listing.root}",
            got="images directly in it alone",
            fix="Name the class of each path, as in labels=lambda path: path.stem.partition('_')[0].",
        )
    _warn_of_case(listing.folders, str(listing.root))
    numbers = {name: number for number, name in enumerate(listing.folders)}
    return FileLabels([numbers.get(part, -1) for part in listing.parts()], listing.folders)


def _named_labels(table: CsvLabels, listing: Listing) -> FileLabels:
    names = FileNames(listing.paths, listing.root)
    rows = table.read(listing.root, names.knows)
    unlabeled = [(name, "" if word == "-1" else word) for name, word in rows]
    if rows and not any(word for _, word in unlabeled):
        text = f"None of the {len(rows)} rows of {table.path} has a label. Fill in its column of labels."
        warn(text, DataWarning, see="labels-that-do-not-fit")
    return _matched(unlabeled, names, str(table.path), listing)


def _matched(rows: Sequence[tuple[Any, Any]], names: FileNames, where: str, listing: Listing) -> FileLabels:
    """Match names with files; report names that fit none."""
    found: dict[int, Any] = {}
    unknown: list[str] = []
    for name, given in rows:
        index, label = names.find(name), _plain(given, where)
        if index is None:
            unknown.append(str(name))
        elif found.setdefault(index, label) != label:
            raise DataError(
                f"one label for each image in {where}",
                got=f"{found[index]!r} and {label!r} for {listing.paths[index].name}",
                fix="Correct the wrong row.",
            )
    if not found:
        _refuse(unknown, names, where)
    values = [found.get(index) for index in range(len(listing.paths))]
    numbered = _numbered(values, where)
    if unknown:
        text = ", ".join(unknown[:NAMED]) + (", …" if len(unknown) > NAMED else "")
        warn(
            f"{len(unknown)} of {len(rows)} names in {where} fit no image in {names.root}: {text}. Their labels are "
            "not used. Correct the names, or remove them.",
            DataWarning,
            see="labels-that-do-not-fit",
        )
    return numbered


def _refuse(unknown: list[str], names: FileNames, where: str) -> None:
    if not unknown:
        raise DataError(f"at least one label in {where}", got="none", fix="Write a file and its label in each row.")
    near = names.nearest(unknown[0])
    hint = f" Did you mean {near!r}?" if near else ""
    raise DataError(
        f"names of images in {names.root} in {where}",
        got=f"{len(unknown)} that fit none, such as {unknown[0]!r}",
        fix=f"Write file names, with or without folder and suffix.{hint}",
        see="labels-that-do-not-fit",
    )


def _in_order(labels: Any, listing: Listing, listed: bool) -> FileLabels:
    values = labels.tolist() if hasattr(labels, "tolist") else list(labels)
    if not listed:
        raise DataError(
            "a list of labels beside a list of files",
            got=f"a list beside {listing.root}, whose order of files it would depend on",
            fix="Pass a mapping from file to label.",
        )
    if len(values) != len(listing.paths):
        got = f"{len(values)} labels for {len(listing.paths)} files"
        raise ShapeError("as many labels as files", got=got, fix="Pass one label for each file.")
    return _numbered(values, "the list of labels")


def _numbered(values: Sequence[Any], where: str) -> FileLabels:
    """Number words; keep numbers."""
    plain = [_plain(value, where) for value in values]
    words = [value for value in plain if isinstance(value, str)]
    if not words:
        return FileLabels([-1 if value is None else int(value) for value in plain], ())
    if any(isinstance(value, int) for value in plain):
        number = next(value for value in plain if isinstance(value, int))
        fix = "Write either for all images."
        raise DataError(f"words or numbers as labels in {where}", got=f"{words[0]!r} and {number}", fix=fix)
    numbers, classes = number_texts(["" if value is None else str(value) for value in plain], _sorted(set(words)))
    _warn_of_case(classes, where)
    return FileLabels(numbers.tolist(), classes)


def _warn_of_case(classes: Sequence[str], where: str) -> None:
    """Warn of names that differ only by case; single letters are classes of their own in sets of letters.

    Example:
        >>> _warn_of_case(["a", "A", "cat", "cats"], "labels.csv")
    """
    alike: dict[str, list[str]] = {}
    for name in sorted(classes):
        alike.setdefault(name.casefold(), []).append(name)
    groups = [" and ".join(map(repr, names)) for names in alike.values() if len(names) > 1 and len(names[0]) > 1]
    if groups:
        text = "; ".join(groups[:NAMED]) + ("; …" if len(groups) > NAMED else "")
        warn(
            f"The labels {text} in {where} differ only by case, and are different classes. Write them alike.",
            DataWarning,
            see="labels-that-do-not-fit",
        )


def _plain(value: Any, where: str) -> Label:
    """Give a label as a word, a number, or None if there is none."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, str):
        return value.strip() or None
    try:
        number = operator.index(value)
    except TypeError:
        fix = "Give a class name, its number, or None if the image is unlabeled."
        raise DataError(f"a word or an integer as label in {where}", got=repr(value), fix=fix) from None
    if number < -1:
        raise DataError(f"labels >= 0 in {where}, or -1 for unlabeled images", got=number, fix="Number from 0.")
    return None if number == -1 else number


def _sorted(words: set[str]) -> list[str]:
    """Sort class names; those that are all integers by their numbers."""
    if all(word.isdecimal() for word in words):
        return sorted(words, key=lambda word: (int(word), word))
    return sorted(words)
