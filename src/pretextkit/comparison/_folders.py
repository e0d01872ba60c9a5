"""Results that training and comparisons left in a folder."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

from pretextkit.comparison._result import Comparison
from pretextkit.errors import DataError, reason
from pretextkit.training._history import History

__all__ = ["read_folder"]


def read_folder(folder: Path) -> History | Comparison:
    """Read the comparison, or the history and settings of a training, in a folder.

    Raises:
        DataError: The folder has neither, or its files are damaged.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     History(({"epoch": 1.0, "loss": 0.5},)).save_csv(Path(folder, "history.csv"))
        ...     read_folder(Path(folder)).last
        {'epoch': 1.0, 'loss': 0.5}
    """
    comparison, history = folder / "comparison.json", folder / "history.csv"
    if comparison.is_file():
        return Comparison.load(comparison)
    if not history.is_file():
        raise DataError(
            "the folder of a training or a comparison, with history.csv or comparison.json",
            got=f"{folder}, which has neither" if folder.is_dir() else f"{folder}, which is no folder",
            fix="Pass the folder given to pretrain(checkpoint=...) or compare(save=...).",
        )
    try:
        with history.open(newline="", encoding="utf-8") as file:
            rows = tuple({name: _number(text) for name, text in row.items()} for row in csv.DictReader(file))
        settings = folder / "settings.json"
        return History(rows, json.loads(settings.read_text("utf-8")) if settings.is_file() else {})
    except (ValueError, TypeError) as error:
        raise DataError(
            "the history that a training wrote", got=reason(error), fix="Repeat the call of pretrain: it resumes."
        ) from error


def _number(text: str) -> float:
    return float(text) if text else math.nan
