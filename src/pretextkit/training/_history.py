"""What was measured while training, as plain data."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pretextkit._atomic import atomic_write

__all__ = ["History"]


@dataclass(frozen=True)
class History:
    """One row of numbers for each epoch: ``epoch``, ``step``, ``loss``, the metrics, ``learning_rate``, ``seconds``.

    Example:
        >>> history = History(({"epoch": 1.0, "loss": 1.5}, {"epoch": 2.0, "loss": 0.5}))
        >>> history.last["loss"], history.column("loss")
        (0.5, [1.5, 0.5])
    """

    rows: tuple[Mapping[str, float], ...] = ()

    @property
    def last(self) -> Mapping[str, float]:
        """Give the last epoch's row; empty before the first epoch."""
        return self.rows[-1] if self.rows else {}

    def column(self, name: str) -> list[float]:
        """Give one number of every epoch."""
        return [row[name] for row in self.rows]

    def save_json(self, path: str | Path) -> None:
        """Write a list of objects."""
        with atomic_write(Path(path)) as file:
            file.write((json.dumps([dict(row) for row in self.rows], indent=1) + "\n").encode())

    def save_csv(self, path: str | Path) -> None:
        """Write a table with a header."""
        names = list(dict.fromkeys(name for row in self.rows for name in row))
        table = io.StringIO(newline="")
        writer = csv.DictWriter(table, names)
        writer.writeheader()
        writer.writerows(self.rows)
        with atomic_write(Path(path)) as file:
            file.write(table.getvalue().encode())
