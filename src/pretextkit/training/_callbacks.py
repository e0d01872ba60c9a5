"""Callbacks: user code that is called in a run, and may stop it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pretextkit._validation import check_callable
from pretextkit.errors import OptionError
from pretextkit.training._history import History, Recorder
from pretextkit.training._monitors import Finding
from pretextkit.training._settings import Plan
from pretextkit.training._user_code import TrainedState

__all__ = ["Callback", "CallbackLike", "RunCallbacks", "RunStatus", "StopTraining", "check_callbacks"]


class StopTraining(Exception):
    """Raised by a callback to end the training after the current step; the message is the reason.

    The last checkpoint is written, and the call returns its result.
    """


@dataclass(frozen=True)
class RunStatus:
    """Status of a run, for callbacks."""

    module: nn.Module = field(repr=False)
    """The module in training, a pretext task or the classifier of a fine-tuning."""
    step: int
    """Steps done."""
    steps: int
    """Steps of the full run."""
    epoch: float
    """Passes over the images done."""
    row: Mapping[str, float]
    """Numbers of the newest step, or the row of the newest epoch."""
    history: History = field(repr=False)
    """Rows of the finished epochs."""
    extends: int = 0
    """Steps of the finished run that this run extends."""
    folder: Path | None = None
    """Folder of the checkpoint; None without."""


class Callback:
    """Base class of callbacks; override the methods that are needed.

    Only rank 0 runs callbacks. Random numbers that a callback draws change nothing in the training. A method ends the
    run by raising :class:`~pretextkit.callbacks.StopTraining`.

    Example:
        >>> import pretextkit as pk
        >>> class StopAtLoss(Callback):
        ...     def on_step(self, status):
        ...         if status.row["loss"] < 100.0:
        ...             raise StopTraining("the loss is below 100")
        >>> task = pk.tasks.Rotation(pk.models.SmallCNN())
        >>> options = {"batch_size": 8, "device": "cpu", "progress": False, "callbacks": [StopAtLoss()]}
        >>> result = pk.functional.pretrain(task, torch.rand(16, 3, 32, 32), epochs=2, **options)
        >>> result.steps, result.stopped
        (1, 'the loss is below 100')
    """

    def on_start(self, status: RunStatus) -> None:
        """Act before the first step of a call; ``row`` is empty."""

    def on_step(self, status: RunStatus) -> None:
        """Act after a step; reading its loss waits for the device."""

    def on_epoch(self, status: RunStatus) -> Mapping[str, float] | None:
        """Act after an epoch; returned numbers join the row of the epoch in the history."""
        return None

    def on_end(self, status: RunStatus) -> None:
        """Act after the last step and the last checkpoint; not after an error or Ctrl-C."""


CallbackLike = Callback | Callable[[Mapping[str, float]], object]
"""A :class:`~pretextkit.callbacks.Callback`, or a function of the history's newest row, called after each epoch."""


class _RowFunction(Callback):
    """Function of a row as a callback."""

    def __init__(self, function: Callable[[Mapping[str, float]], object]) -> None:
        self.function = function

    def on_epoch(self, status: RunStatus) -> None:
        self.function(status.row)


class RunCallbacks:
    """Callbacks of one run; each method returns what to warn about, because a callback changed the module.

    Args:
        callbacks: Callbacks, on rank 0; none on other processes.
        plan: Numbers of the run.
        state: Modes and places of the weights.
        recorder: History of the run.
        folder: Folder of the checkpoint, if any.
    """

    def __init__(
        self,
        callbacks: Sequence[CallbackLike],
        plan: Plan,
        state: TrainedState,
        recorder: Recorder,
        folder: Path | None,
    ) -> None:
        self.callbacks = [each if isinstance(each, Callback) else _RowFunction(each) for each in callbacks]
        self.plan, self.state, self.recorder, self.folder = plan, state, recorder, folder
        self.stopped: str | None = None
        """Reason of the callback that stopped the run."""

    @property
    def watch_steps(self) -> bool:
        """Whether a callback is called after each step."""
        return any(type(each).on_step is not Callback.on_step for each in self.callbacks)

    def on_start(self, done: int) -> list[Finding]:
        """Call the callbacks before the first step."""
        return self._call(lambda callback, status: callback.on_start(status), done, {})

    def on_step(self, done: int, learning_rate: float) -> list[Finding]:
        """Call the callbacks after a step whose numbers are read."""
        if not self.watch_steps:
            return []
        row = {"epoch": done / self.plan.per_epoch, "step": done, **self.recorder.latest}
        return self._call(
            lambda callback, status: callback.on_step(status), done, row | {"learning_rate": learning_rate}
        )

    def on_epoch(self, done: int, row: dict[str, float]) -> list[Finding]:
        """Call the callbacks after an epoch, and add the numbers that they return to its row."""
        return self._call(lambda callback, status: _add_numbers(row, callback.on_epoch(status)), done, row)

    def on_end(self, done: int) -> list[Finding]:
        """Call the callbacks after the last step."""
        return self._call(lambda callback, status: callback.on_end(status), done, self.recorder.history.last)

    def _call(
        self, hook: Callable[[Callback, RunStatus], object], done: int, row: Mapping[str, float]
    ) -> list[Finding]:
        """Call one method of all callbacks, also after one of them has stopped the run.

        Raises:
            OptionError: A callback moved the weights, or returned something else than new numbers.
        """
        if not self.callbacks:
            return []
        before = self.state.flags_now()
        for callback in self.callbacks:
            with torch.set_grad_enabled(torch.is_grad_enabled()):  # restores the mode, which a callback may change
                self._call_one(hook, callback, self._status(done, row))
        self.state.check_place()
        return self.state.changes(before)

    def _call_one(self, hook: Callable[[Callback, RunStatus], object], callback: Callback, status: RunStatus) -> None:
        try:
            hook(callback, status)
        except StopTraining as stop:
            self.stopped = str(stop) or f"{type(callback).__name__} stopped the training"

    def _status(self, done: int, row: Mapping[str, float]) -> RunStatus:
        return RunStatus(
            module=self.state.module,
            step=done,
            steps=self.plan.total,
            epoch=done / self.plan.per_epoch,
            row=dict(row),
            history=self.recorder.history,
            extends=self.plan.extends,
            folder=self.folder,
        )


def check_callbacks(callbacks: Any) -> list[CallbackLike]:
    """Check that callbacks are objects of the base class, or functions of a row.

    Raises:
        OptionError: ``callbacks`` is no sequence, or one of them is neither.

    Example:
        >>> check_callbacks([print])
        [<built-in function print>]
    """
    if callable(callbacks) or isinstance(callbacks, Callback | str) or callbacks is None:
        fix = "Leave it out for none." if callbacks is None else "Write callbacks=[function]."
        raise OptionError("callbacks to be a sequence of functions", got=type(callbacks).__name__, fix=fix)
    found = list(callbacks)
    for callback in found:
        if isinstance(callback, type) and issubclass(callback, Callback):
            fix = f"Make an object: callbacks=[{callback.__name__}(...)]."
            raise OptionError("each of callbacks to be an object", got=f"the class {callback.__name__}", fix=fix)
        if not isinstance(callback, Callback) and any(hasattr(callback, name) for name in ("on_step", "on_epoch")):
            raise OptionError(
                "each of callbacks to be a pretextkit.callbacks.Callback, or a function of (row)",
                got=f"a {type(callback).__name__} with methods of such names",
                fix=f"Derive it: class {type(callback).__name__}(pretextkit.callbacks.Callback).",
            )
        if not isinstance(callback, Callback):
            check_callable("each of callbacks", callback, "row")
    return found


def _add_numbers(row: dict[str, float], numbers: Any) -> None:
    """Add the numbers that a callback returned to a row.

    Example:
        >>> row = {"loss": 0.5}
        >>> _add_numbers(row, {"recall": 1})
        >>> row
        {'loss': 0.5, 'recall': 1.0}
    """
    if numbers is None:
        return
    fix = "Return nothing, or for example {'validation_accuracy': 0.5}."
    if not isinstance(numbers, Mapping):
        raise OptionError("numbers by name, or None, from on_epoch", got=type(numbers).__name__, fix=fix)
    for name, number in numbers.items():
        if name in row:
            raise OptionError("new names from on_epoch", got=f"{name!r}, which the row has", fix="Choose another name.")
        try:
            row[str(name)] = float(number)
        except (TypeError, ValueError):
            raise OptionError(f"a number as {name!r} from on_epoch", got=repr(number), fix=fix) from None
