"""Stop of a run that no longer improves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pretextkit._validation import check_int
from pretextkit.callbacks._best_row import Best, check_best, is_better, read_number
from pretextkit.training._callbacks import Callback, RunStatus, StopTraining

__all__ = ["EarlyStopping"]


class EarlyStopping(Callback):
    """Stop of a run whose history no longer improves.

    The callback reads the rows of the history and keeps no state: a resumed run stops at the same epoch, and repeating
    the call of a stopped run does no step. A run that extends a finished run counts its own epochs. The learning rate
    of a stopped run has not fallen to zero, so that a loss which still falls late is better left to its schedule.

    Args:
        column: Column of the history.
        best: ``"lowest"`` for a loss, ``"highest"`` for an accuracy.
        patience: Measured epochs without a better value after which the run stops.

    Raises:
        OptionError: An option is out of range, or the history has no such column.

    Example:
        >>> import torch, pretextkit as pk
        >>> task = pk.tasks.Rotation(pk.models.SmallCNN())
        >>> callbacks = [EarlyStopping("learning_rate", best="highest", patience=2)]
        >>> options = {"epochs": 9, "batch_size": 8, "device": "cpu", "progress": False, "callbacks": callbacks}
        >>> pk.functional.pretrain(task, torch.rand(16, 3, 32, 32), **options).stopped
        'learning_rate is not better than in epoch 1 for 2 epochs'
    """

    def __init__(self, column: str, *, best: Best, patience: int = 5) -> None:
        check_best(best)
        self.column, self.best = column, best
        self.patience = check_int("patience", patience, fix="The default is 5.")

    def on_start(self, status: RunStatus) -> None:
        """Stop a run that an earlier call has stopped."""
        self._look(status)

    def on_epoch(self, status: RunStatus) -> None:
        """Stop if the newest epochs are not better than an earlier epoch."""
        self._look(status)

    def _look(self, status: RunStatus) -> None:
        rows = [row for row in status.history.rows if row["step"] > status.extends]
        if not rows:
            return
        read_number(rows, self.column)  # refuses an unknown column in the first epoch
        best, since = self._best(rows)
        if best is not None and since >= self.patience:
            epochs = f"{since} epoch{'' if since == 1 else 's'}"
            raise StopTraining(f"{self.column} is not better than in epoch {best['epoch']:g} for {epochs}")

    def _best(self, rows: Sequence[Mapping[str, float]]) -> tuple[Mapping[str, float] | None, int]:
        """Return the first best row, and the number of measured rows after it."""
        best: Mapping[str, float] | None = None
        since = 0
        for row in rows:
            value = row.get(self.column, float("nan"))
            if is_better(value, None if best is None else best[self.column], self.best):
                best, since = row, 0
            elif value == value:  # measured
                since += 1
        return best, since
