"""Collecting losses and metrics without waiting for the device at every step."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from pretextkit.contracts import TaskOutput
from pretextkit.errors import DivergenceError

__all__ = ["Recorder", "diverged"]


class Recorder:
    """Losses and metrics of the steps of the open epoch, and the rows of those that are closed."""

    def __init__(self, rows: Sequence[dict[str, float]] = (), open: Sequence[dict[str, float]] = ()) -> None:
        self.rows, self.open = list(rows), list(open)
        self.waiting: list[tuple[int, list[str], Tensor]] = []
        self.latest: dict[str, float] = {}

    def add(self, step: int, output: TaskOutput) -> None:
        values = torch.stack([output.loss.detach().float(), *(value.float() for value in output.metrics.values())])
        self.waiting.append((step, ["loss", *output.metrics], values))

    def flush(self) -> None:
        """Read the values that wait on the device, and stop at the first loss that is not finite."""
        for step, names, values in self.waiting:
            self.latest = dict(zip(names, values.tolist(), strict=True))
            if not math.isfinite(self.latest["loss"]):
                raise diverged("loss", self.latest["loss"], step + 1)
            self.open.append(self.latest)
        self.waiting.clear()

    def close_epoch(self, **row: float) -> None:
        self.flush()
        means = {name: sum(values[name] for values in self.open) / len(self.open) for name in self.latest}
        self.rows.append({"epoch": row["epoch"], "step": row["step"], **means, **row})
        self.open.clear()


def diverged(what: str, value: object, step: int) -> DivergenceError:
    """Build the error of a run whose ``what`` is not finite."""
    return DivergenceError(
        f"a finite {what}",
        got=f"{value} at step {step}",
        fix="Training has stopped; a checkpoint, if there is one, holds the last good weights. "
        "Lower learning_rate, set clip_norm=1.0, or use precision='fp32'.",
    )
