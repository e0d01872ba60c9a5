"""What looks at a run while it trains: the history, monitors of silent failures, and callbacks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from pretextkit.contracts import TaskOutput
from pretextkit.training._callbacks import RunCallbacks
from pretextkit.training._history import Recorder
from pretextkit.training._monitors import Finding, TrainingMonitor, WarnOnce
from pretextkit.training._objectives import Objective
from pretextkit.training._run_checkpoints import RunCheckpoints
from pretextkit.training._step import TrainStep

__all__ = ["RunWatch"]


class RunWatch:
    """Watch a run: each event goes to the history, the monitor and the callbacks, and what they find is warned about.

    Args:
        objective: What trains.
        train_step: Steps of the run.
        recorder: History of the run.
        monitor: Monitor of silent failures.
        callbacks: Callbacks of this process.
        warn_once: Gives each kind of warning once.
    """

    def __init__(
        self,
        objective: Objective,
        train_step: TrainStep,
        recorder: Recorder,
        monitor: TrainingMonitor,
        callbacks: RunCallbacks,
        warn_once: WarnOnce,
    ) -> None:
        self.objective, self.train_step, self.recorder = objective, train_step, recorder
        self.monitor, self.callbacks, self.warn_once = monitor, callbacks, warn_once

    @property
    def stopped(self) -> bool:
        """Whether a callback stopped the run."""
        return self.callbacks.stopped is not None

    def on_start(self, done: int) -> None:
        """Before the first step of the call."""
        self.warn_once(self.callbacks.on_start(done))

    def on_batch(self, step: int, images: Tensor, batches: Sequence[Any]) -> None:
        """Before a step."""
        self.warn_once(self.monitor.on_batch(step, images, batches))

    def add(self, step: int, output: TaskOutput) -> None:
        """Keep the numbers of a step on the device."""
        self.recorder.add(step, output, self.monitor.gradient_norm())

    def on_step(self, step: int) -> None:
        """After a step whose numbers are wanted now."""
        self.read_numbers()
        self.warn_once(self.callbacks.on_step(step + 1, self.train_step.learning_rate(step)))

    def on_epoch(self, step: int) -> None:
        """After the last step of an epoch, whose numbers are read."""
        row, findings = self._close_epoch(step)
        scale = self.train_step.scaler.get_scale()
        self.warn_once(findings + self.monitor.on_epoch(row["epoch"], row["loss"], scale))
        self.warn_once(self.train_step.state.on_epoch())
        self.warn_once(self.callbacks.on_epoch(step + 1, row))

    def on_save(self, checkpoints: RunCheckpoints) -> None:
        """After a checkpoint."""
        self.warn_once(self.monitor.on_save(checkpoints.identity) if checkpoints.writes else [])

    def on_end(self, done: int) -> None:
        """After the last step and the last checkpoint."""
        self.warn_once(self.callbacks.on_end(done))

    def read_numbers(self) -> None:
        """Read the waiting numbers from the device, and look at them."""
        values = self.recorder.flush()
        self.monitor.on_steps(values)
        self.warn_once(self.objective.on_steps(values))

    def _close_epoch(self, step: int) -> tuple[dict[str, float], list[Finding]]:
        """Measure the module, and close the history's row of the epoch that ends with ``step``."""
        strategy = self.train_step.strategy
        with strategy.full_weights():
            metrics, findings = self.objective.on_epoch()
        row = self.recorder.close_epoch(
            epoch=(step + 1) / self.train_step.plan.per_epoch,
            step=step + 1,
            **strategy.group.mean_values(metrics),
            learning_rate=self.train_step.learning_rate(step),
            seconds=self.recorder.seconds,
        )
        return row, findings
