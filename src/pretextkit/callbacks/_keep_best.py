"""Return to the weights of the best epoch."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pretextkit._atomic import atomic_write
from pretextkit.callbacks._best_row import Best, check_best, is_better, read_number
from pretextkit.errors import OptionError
from pretextkit.training._callbacks import Callback, RunStatus

__all__ = ["KeepBest"]


class _Kept(NamedTuple):
    """Weights of an epoch."""

    step: int
    value: float
    weights: dict[str, Tensor]


class KeepBest(Callback):
    """Return to the weights of the best epoch at the end of a run.

    The checkpoint keeps the last weights, with which a run resumes or is extended. The best weights lie beside the
    checkpoint, in ``best.pt``; without a checkpoint they are in memory. A run that extends a finished run chooses among
    the epochs of both. Several processes are refused.

    Args:
        column: Column of the history, such as that of a :class:`Probe` before this callback.
        best: ``"lowest"`` for a loss, ``"highest"`` for an accuracy.

    Raises:
        OptionError: An option is out of range, the history has no such column, or several processes train.

    Example:
        >>> import pretextkit as pk
        >>> task = pk.tasks.Rotation(pk.models.SmallCNN())
        >>> keep = KeepBest("learning_rate", best="highest")
        >>> options = {"epochs": 3, "batch_size": 8, "device": "cpu", "progress": False, "callbacks": [keep]}
        >>> _ = pk.functional.pretrain(task, torch.rand(16, 3, 32, 32), **options)
        >>> keep.step
        2
    """

    def __init__(self, column: str, *, best: Best) -> None:
        _refuse_several_processes()
        check_best(best)
        self.column, self.best = column, best
        self.kept: _Kept | None = None

    @property
    def step(self) -> int | None:
        """Step of the kept weights; None before the first measured epoch."""
        return None if self.kept is None else self.kept.step

    def on_start(self, status: RunStatus) -> None:
        """Read the best weights of the part of the run that an earlier call has done."""
        _refuse_several_processes()
        self.kept = None
        path = _file(status)
        if path is not None and path.exists():
            content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
            if content["column"] == self.column and content["best"] == self.best and content["step"] <= status.step:
                self.kept = _Kept(content["step"], content["value"], content["weights"])

    def on_epoch(self, status: RunStatus) -> None:
        """Keep the weights if they are the best so far."""
        value = read_number([status.row], self.column)
        if is_better(value, None if self.kept is None else self.kept.value, self.best):
            weights = {name: each.detach().cpu().clone() for name, each in status.module.state_dict().items()}
            self.kept = _Kept(status.step, value, weights)
            if (path := _file(status)) is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                with atomic_write(path) as file:
                    torch.save({"column": self.column, "best": self.best, **self.kept._asdict()}, file)

    def on_end(self, status: RunStatus) -> None:
        """Load the best weights."""
        if self.kept is not None:
            status.module.load_state_dict(self.kept.weights)


def _refuse_several_processes() -> None:
    """Refuse to keep weights that other processes would not load; each process asks when it builds the callback."""
    group = torch.distributed.is_available() and torch.distributed.is_initialized()
    if group and (count := torch.distributed.get_world_size()) > 1:
        fix = "Save the weights in a callback of your own, and load them after the run."
        raise OptionError("KeepBest in one process", got=f"a group of {count} processes", fix=fix)


def _file(status: RunStatus) -> Path | None:
    return None if status.folder is None else status.folder / "best.pt"
