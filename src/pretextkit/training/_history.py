"""Losses and metrics of a run: the history of its epochs, and the recorder that fills it."""

from __future__ import annotations

import csv
import io
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pretextkit._atomic import atomic_write
from pretextkit._display import Displayed
from pretextkit.contracts import TaskOutput
from pretextkit.errors import unknown_name

__all__ = ["History", "Recorder", "StepValues"]


SHOWN = 10
"""Epochs in the table of a notebook."""


@dataclass(frozen=True, repr=False)
class History(Displayed):
    """One row of numbers for each epoch: ``epoch``, ``step``, ``loss``, the metrics, ``learning_rate``, ``seconds``.

    Example:
        >>> history = History(({"epoch": 1.0, "loss": 1.5}, {"epoch": 2.0, "loss": 0.5}))
        >>> history.last["loss"], history.column("loss")
        (0.5, [1.5, 0.5])
    """

    rows: tuple[Mapping[str, float], ...] = ()
    settings: Mapping[str, str | float | None] = field(default_factory=dict)
    """What was run, and settings of the run, with the values that stood for those that the call left out."""

    @property
    def last(self) -> Mapping[str, float]:
        """Row of the last epoch; empty before the end of the first epoch."""
        return self.rows[-1] if self.rows else {}

    def column(self, name: str) -> list[float]:
        """Return one number of every epoch; NaN in epochs without it.

        Raises:
            UnknownNameError: No epoch has a number of this name.
        """
        if self.rows and name not in self._names():
            raise unknown_name("column", name, self._names())
        return [row.get(name, math.nan) for row in self.rows]

    def table(self, newest: int | None = None) -> list[list[str]]:
        """Return a header and a row for each of the newest epochs; of all by default.

        Example:
            >>> History(({"epoch": 1.0, "loss": 1.5}, {"epoch": 2.0, "loss": 0.5})).table(1)
            [['epoch', 'loss'], ['2', '0.5']]
        """
        names = self._names()
        rows = self.rows if newest is None else self.rows[-newest:]
        return [names, *([f"{row[name]:.4g}" if name in row else "" for name in names] for row in rows)]

    def display_line(self) -> str:
        """Return the number of epochs and the numbers of the last."""
        last = ", ".join(f"{name} {value:.4g}" for name, value in self.last.items())
        return f"{len(self.rows)} {'epoch' if len(self.rows) == 1 else 'epochs'}" + (f"; {last}" if last else "")

    def display_table(self) -> list[list[str]]:
        """Return the rows of the newest epochs."""
        return self.table(SHOWN)

    def _names(self) -> list[str]:
        return list(dict.fromkeys(name for row in self.rows for name in row))

    def save_json(self, path: str | Path) -> None:
        """Write a JSON object with the ``settings``, and the ``rows`` as a list of objects, where NaN is null."""
        rows = [{name: None if math.isnan(value) else value for name, value in row.items()} for row in self.rows]
        content = {"settings": dict(self.settings), "rows": rows}
        with atomic_write(Path(path)) as file:
            file.write((json.dumps(content, indent=1) + "\n").encode())

    def save_settings(self, path: str | Path) -> None:
        """Write the settings as a JSON object."""
        with atomic_write(Path(path)) as file:
            file.write((json.dumps(dict(self.settings), indent=1) + "\n").encode())

    def save_csv(self, path: str | Path) -> None:
        """Write the rows, without the settings, as a table with a header."""
        table = io.StringIO(newline="")
        writer = csv.DictWriter(table, self._names())
        writer.writeheader()
        writer.writerows(self.rows)
        with atomic_write(Path(path)) as file:
            file.write(table.getvalue().encode())


class StepValues(NamedTuple):
    """Numbers of one step, read from the device."""

    step: int
    values: dict[str, float]
    """Loss and metrics."""
    gradient: float
    """Sum of the norms of all gradients."""


class Recorder:
    """Losses and metrics of the steps of the current epoch, and the rows of the finished epochs.

    Values stay on the device until :meth:`flush`, because reading them waits for the device.

    Args:
        rows: Rows of finished epochs.
        open: Values of the steps of the current epoch.
        seconds: Time spent by earlier calls of the same run.
        settings: Settings of the run.
    """

    def __init__(
        self,
        rows: Sequence[dict[str, float]] = (),
        open: Sequence[dict[str, float]] = (),
        seconds: float = 0.0,
        settings: Mapping[str, str | float | None] | None = None,
    ) -> None:
        self.rows, self.open, self.seconds_before = list(rows), list(open), seconds
        self.settings = settings or {}
        self.waiting: list[tuple[int, list[str], Tensor]] = []
        self.latest: dict[str, float] = {}
        self.begun = time.monotonic()

    @property
    def history(self) -> History:
        """Rows of the finished epochs."""
        return History(tuple(self.rows), self.settings)

    @property
    def seconds(self) -> float:
        """Time spent by all calls of the run."""
        return self.seconds_before + self.seconds_here

    @property
    def seconds_here(self) -> float:
        """Time since the recorder was built."""
        return time.monotonic() - self.begun

    def add(self, step: int, output: TaskOutput, gradient: Tensor) -> None:
        """Keep the loss and metrics of a step, and the norm of its gradients, on the device."""
        metrics = (value.float() for value in output.metrics.values())
        values = torch.stack([gradient, output.loss.detach().float(), *metrics])
        self.waiting.append((step, ["loss", *output.metrics], values))

    def flush(self) -> list[StepValues]:
        """Read the waiting values from the device, and return them step by step."""
        found = []
        for step, names, values in self.waiting:
            gradient, *rest = values.tolist()
            self.latest = dict(zip(names, rest, strict=True))
            self.open.append(self.latest)
            found.append(StepValues(step, self.latest, gradient))
        self.waiting.clear()
        return found

    def close_epoch(self, **row: float) -> dict[str, float]:
        """Add a row with the means of the flushed steps, and return it."""
        means = {name: sum(values[name] for values in self.open) / len(self.open) for name in self.latest}
        closed = {"epoch": row["epoch"], "step": row["step"], **means, **row}
        self.rows.append(closed)
        self.open.clear()
        return closed

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs of the recorder."""
        return {"seconds": self.seconds, "rows": self.rows, "open": self.open}
