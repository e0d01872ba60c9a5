"""Collecting losses and metrics without waiting for the device at every step."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pretextkit.contracts import TaskOutput
from pretextkit.errors import DivergenceError

__all__ = ["Recorder", "diverged"]


class Recorder:
    """Losses and metrics of the steps of the open epoch, and the rows of those that are closed.

    Args:
        rows: Those of closed epochs.
        open: Values of the open epoch's steps.
        see: Is shown each step, its loss and metrics, and the length of its gradient, when they are read.
    """

    def __init__(
        self,
        rows: Sequence[dict[str, float]] = (),
        open: Sequence[dict[str, float]] = (),
        see: Callable[[int, dict[str, float], float], None] = lambda step, values, gradient: None,
    ) -> None:
        self.rows, self.open, self.see = list(rows), list(open), see
        self.waiting: list[tuple[int, list[str], Tensor]] = []
        self.latest: dict[str, float] = {}

    def add(self, step: int, output: TaskOutput, gradient: Tensor) -> None:
        """Note what came of a step, and the length of its gradient."""
        metrics = (value.float() for value in output.metrics.values())
        values = torch.stack([gradient, output.loss.detach().float(), *metrics])
        self.waiting.append((step, ["loss", *output.metrics], values))

    def flush(self) -> None:
        """Read the values that wait on the device."""
        for step, names, values in self.waiting:
            gradient, *rest = values.tolist()
            self.latest = dict(zip(names, rest, strict=True))
            self.see(step, self.latest, gradient)
            self.open.append(self.latest)
        self.waiting.clear()

    def close_epoch(self, **row: float) -> None:
        self.flush()
        means = {name: sum(values[name] for values in self.open) / len(self.open) for name in self.latest}
        self.rows.append({"epoch": row["epoch"], "step": row["step"], **means, **row})
        self.open.clear()


def diverged(what: str, value: object, step: int, cause: str = "") -> DivergenceError:
    """Build the error of a run whose ``what`` is not finite."""
    return DivergenceError(
        f"a finite {what}",
        got=f"{value} at step {step}",
        fix="Training has stopped; a checkpoint, if there is one, holds the last good weights. "
        f"{cause}{' ' if cause else ''}Lower learning_rate, set clip_norm=1.0, or use precision='fp32'.",
    )
