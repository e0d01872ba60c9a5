"""Checkpoints of one run: resumed once, and saved when due."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pretextkit._fingerprint import differences
from pretextkit._modules import unwrap
from pretextkit._starting_point import KEY, restore_starting_point
from pretextkit.distributed._strategy import Strategy
from pretextkit.errors import CheckpointError, reason, warn
from pretextkit.training._checkpoint import load_checkpoint, read_checkpoint, require_writable, save_checkpoint
from pretextkit.training._extension import Start, resolve_extension
from pretextkit.training._history import Recorder
from pretextkit.training._monitors import diverged
from pretextkit.training._settings import Plan, Settings
from pretextkit.training._step import TrainStep

__all__ = ["RunCheckpoints", "check_finite_weights"]


class RunCheckpoints:
    """Checkpoints of one run: resumed once, saved when due. Only rank 0 reads and writes.

    Args:
        folder: Folder of the checkpoint, ``history.csv`` and ``settings.json``; ``None`` saves nothing.
        interval: Seconds between two checkpoints.
        identity: Identity of the run.
        strategy: How the processes train the module.
        start: What to make of another run.
        about: Description of the backbone; empty without one.
    """

    def __init__(
        self,
        folder: str | Path | None,
        interval: float,
        identity: Mapping[str, Any],
        strategy: Strategy,
        start: Start = Start(),  # noqa: B008 - an immutable tuple
        about: str = "",
    ) -> None:
        self.about = about
        self.folder = None if folder is None else Path(folder)
        self.interval, self.identity, self.strategy, self.group = interval, identity, strategy, strategy.group
        self.start = start
        self.writes = self.folder is not None and self.group.is_first
        self.saved = time.monotonic()
        self.saves_together = self.settings_saved = False
        self.state: dict[str, Any] | None = None

    def resume_plan(self, plan: Plan, settings: Settings) -> Plan:
        """Read the newest checkpoint, if there is one, on every process; return the plan of the run that goes on.

        Args:
            plan: Plan of the call, as of a new run.
            settings: Options of the call; only a call that gives epochs or steps extends a run.

        Raises:
            CheckpointError: The checkpoint belongs to another run, or no file is intact.
        """
        self.state, extends = self.group.broadcast_object(lambda: self._read(plan, settings))
        if extends:
            plan = plan.extending(extends, settings.warmup)
        self.identity = {**self.identity, **asdict(plan)} if self.identity else self.identity
        return plan

    def resume(self, train_step: TrainStep) -> tuple[int, dict[str, Any]]:
        """Load the checkpoint that was read, or the weights of another run.

        Returns:
            The number of steps done, and the arguments of the run's ``Recorder``.
        """
        state, self.state = self.state, None  # frees the memory
        if state is not None:
            train_step.load_state_dict(state)
            self._take_starting_point(state["about"], train_step)
        elif self.start.init is not None:
            init = Path(self.start.init)
            weights, about = self.group.broadcast_object(lambda: self._weights(init, train_step))
            train_step.strategy.load_module(weights)
            self._take_starting_point(about, train_step)
        self.saves_together = self.strategy.saves_together and self.group.all_reduce_max(self.folder is not None) > 0
        self.saved = time.monotonic()
        return (
            (0, {}) if state is None else (state["step"], {name: state[name] for name in ("rows", "open", "seconds")})
        )

    def due(self, last: bool, synchronized: bool) -> bool:
        """Return whether to save now: at the end, or when the interval is over.

        Args:
            last: Whether the run ends or stops after this step.
            synchronized: Whether all processes reach this call in this step.
        """
        due = last or time.monotonic() - self.saved > self.interval
        if self.saves_together:  # all take part, or some would wait forever
            due = synchronized and self.group.all_reduce_max(due) > 0
        return due and (self.writes or self.saves_together)

    def save(self, done: int, train_step: TrainStep, recorder: Recorder, last: bool) -> None:
        """Save the run after ``done`` steps.

        Raises:
            DivergenceError: A weight is not finite.
            CheckpointError: The last checkpoint could not be written. For others there is a warning.
        """
        check_finite_weights(self.strategy, done)
        weights = train_step.state_dict()
        if self.folder is not None and self.writes:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                # The history first: nobody would write it again after a checkpoint that says that the run is complete.
                recorder.history.save_csv(self.folder / "history.csv")
                if not self.settings_saved:
                    recorder.history.save_settings(self.folder / "settings.json")
                    self.settings_saved = True
                state = {**weights, "step": done, **recorder.state_dict()}
                save_checkpoint(self.folder, state, self.identity, self.about)
            except OSError as error:
                self._report(error, done, last)
        self.saved = time.monotonic()

    def _read(self, plan: Plan, settings: Settings) -> tuple[dict[str, Any] | None, int]:
        """Read the state of the run, and the steps of the finished run that it extends."""
        if self.folder is None:
            return None, 0
        require_writable(self.folder)  # now, not after ten hours
        saved = load_checkpoint(self.folder)
        if saved is None:
            return None, 0
        extend = self.start.extend and (settings.epochs is not None or settings.steps is not None)
        return {**saved.state, "about": saved.about}, resolve_extension(
            saved, self.identity, plan, settings.warmup, extend
        )

    def _take_starting_point(self, about: str, train_step: TrainStep) -> None:
        """Note where the weights of another call come from, in the backbone and for the checkpoints of this call."""
        header = json.loads(about or "{}")
        if self.about and KEY in header:
            restore_starting_point(unwrap(train_step.objective.module).backbone, header)
            self.about = json.dumps({**json.loads(self.about), KEY: header[KEY]})

    def _weights(self, folder: Path, train_step: TrainStep) -> tuple[dict[str, Any], str]:
        """Read the weights with which a new run starts, and the description of their backbone.

        Raises:
            CheckpointError: There is no checkpoint, or its weights have other names or shapes.
        """
        content = read_checkpoint(folder)  # without a change on the disk
        if content is None:
            fix = "Pass the folder that was the checkpoint of a run."
            raise CheckpointError(f"a checkpoint in init={str(folder)!r}", got="none", fix=fix)
        weights: dict[str, Any] = content["state"]["module"]
        shapes = {name: tuple(value.shape) for name, value in train_step.objective.module.state_dict().items()}
        if found := differences({name: tuple(value.shape) for name, value in weights.items()}, shapes):
            fix = "Build the task and its backbone as in that run."
            raise CheckpointError(f"weights of the shapes of those in {folder}", got=found, fix=fix)
        return weights, content.get("about", "")

    def _report(self, error: OSError, done: int, last: bool) -> None:
        if last:
            raise CheckpointError(
                f"a writable folder {self.folder}",
                got=reason(error),
                fix="Free some space and repeat the call: it resumes from the previous checkpoint, if there is one. "
                f"The weights of this process, after step {done}, are still in its memory.",
            ) from error
        warn(
            f"The checkpoint at step {done} could not be written to {self.folder}: {error}. The previous checkpoint "
            f"stays, training continues, and the next try comes after {max(0, self.interval):g} s. Free some space.",
            see="a-checkpoint-that-cannot-be-written",
        )


def check_finite_weights(strategy: Strategy, done: int) -> None:
    """Refuse weights that are not finite.

    Raises:
        DivergenceError: A weight is NaN or infinite after ``done`` steps.
    """
    for name, value in strategy.module.named_parameters():
        if not strategy.full_tensor(value.isfinite().all()):
            raise diverged(f"weight {name!r}", "nan or inf", done)
