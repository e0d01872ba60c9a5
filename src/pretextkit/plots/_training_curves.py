"""Plot of the loss and metrics of a training run."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pretextkit.errors import DataError
from pretextkit.plots._figures import CHANCE, DASHES, MARKERS, PALETTE, new_figure
from pretextkit.plots._metrics import BASELINES, label_of
from pretextkit.training._history import History

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["training_curves"]

COLUMNS = 3
BOOKKEEPING = ("epoch", "step", "learning_rate", "seconds")


def training_curves(history: History, *, title: str = "") -> Figure:
    """Draw the loss and all metrics of a run against epochs.

    Each metric has its own panel, because scales differ; variants of a metric (``accuracy``, ``accuracy_90``) share
    one. Axes of known metrics name the better direction. A dashed line is a level to pass: the accuracy of random
    guesses, or a baseline that the task measures, such as ``mse_of_mean``.

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
        >>> figure = training_curves(History(rows, {"chance_accuracy": 0.25}))
        >>> [axes.get_ylabel() for axes in figure.axes]
        ['loss (lower is better)', 'accuracy (higher is better)']
        >>> [line.get_label() for line in figure.axes[1].lines]
        ['accuracy', 'chance 0.25']
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
        for number, name in enumerate(names):
            _draw(axes, epochs, history.column(name), name, number, main=name == label)
        chance = history.settings.get("chance_accuracy")
        if label == "accuracy" and isinstance(chance, float):
            axes.axhline(chance, label=f"chance {chance:.3g}", **CHANCE)
        if len(axes.lines) > 1:
            axes.legend(fontsize="x-small", edgecolor="none")
        axes.set_xlabel("epoch")
        axes.set_ylabel(label_of(label))
        axes.grid(alpha=0.3)
        axes.locator_params("x", integer=True)
    if title:
        figure.suptitle(title)
    return figure


def _draw(axes: Axes, epochs: list[float], values: list[float], name: str, number: int, *, main: bool) -> None:
    """Draw one line; those of a panel differ in color, marker and dashes."""
    if name in BASELINES:
        axes.plot(epochs, values, label=name, **CHANCE)
        return
    axes.plot(
        epochs,
        values,
        label=name,
        color=PALETTE[number % len(PALETTE)],
        marker=MARKERS[number % len(MARKERS)],
        markersize=4,
        markevery=max(1, len(epochs) // 10),
        linestyle=DASHES[number % len(DASHES)],
        linewidth=1.8 if main else 0.9,
    )


def _panels(names: list[str]) -> dict[str, list[str]]:
    """Group names: baselines join their metric, and a name that is another name and a suffix joins that name."""
    panels: dict[str, list[str]] = {}
    for name in names:
        metric = BASELINES[name] if BASELINES.get(name) in names else name
        base = min((other for other in names if metric == other or metric.startswith(f"{other}_")), key=len)
        panels.setdefault(base, []).append(name)
    return panels
