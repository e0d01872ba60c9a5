"""Plot of the loss and metrics of a training run."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pretextkit.errors import DataError
from pretextkit.plots._figures import PALETTE, new_figure
from pretextkit.training._history import History

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["training_curves"]

COLUMNS = 3
BOOKKEEPING = ("epoch", "step", "learning_rate", "seconds")


def training_curves(history: History, *, title: str = "") -> Figure:
    """Draw the loss and all metrics of a run against epochs.

    Each metric has its own panel, because scales differ; variants of a metric (``accuracy``, ``accuracy_90``) share
    one.

    Args:
        history: History of a ``PretrainResult`` or ``FinetuneResult``.
        title: Title of the figure.

    Returns:
        A figure to save or display.

    Raises:
        DataError: The history is empty.
        PretextkitError: matplotlib is not installed.

    Example:
        >>> rows = ({"epoch": 1.0, "loss": 1.4, "accuracy": 0.3}, {"epoch": 2.0, "loss": 0.9, "accuracy": 0.6})
        >>> [axes.get_ylabel() for axes in training_curves(History(rows)).axes]
        ['loss', 'accuracy']
    """
    if not history.rows:
        raise DataError("a history of at least one epoch", got="an empty history", fix="Train first.")
    epochs = history.column("epoch")
    panels = _panels([name for name in history.last if name not in BOOKKEEPING])
    lines = math.ceil(len(panels) / COLUMNS)
    columns = min(COLUMNS, len(panels))

    figure = new_figure(3.6 * columns, 2.8 * lines + (0.3 if title else 0))
    for place, (label, names) in enumerate(panels.items(), 1):
        axes = figure.add_subplot(lines, columns, place)
        axes.set_prop_cycle(color=PALETTE)
        for name in names:
            width = 1.5 if name == label else 0.8
            axes.plot(epochs, history.column(name), marker="." if len(epochs) < 30 else "", label=name, linewidth=width)
        if len(names) > 1:
            axes.legend(fontsize="x-small", frameon=False)
        axes.set_xlabel("epoch")
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
        axes.locator_params("x", integer=True)
    if title:
        figure.suptitle(title)
    return figure


def _panels(names: list[str]) -> dict[str, list[str]]:
    """Group names: a name that starts with another name and an underscore joins the panel of that name."""
    panels: dict[str, list[str]] = {}
    for name in names:
        base = min((other for other in names if name == other or name.startswith(f"{other}_")), key=len)
        panels.setdefault(base, []).append(name)
    return panels
