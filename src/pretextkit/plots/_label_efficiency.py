"""Plot of accuracy against the number of labels."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any

from pretextkit._validation import check_float
from pretextkit.errors import DataError
from pretextkit.plots._comparison import accuracies_of, accuracy_label
from pretextkit.plots._figures import BASELINES, CHANCE, DASHES, GRAY, MARKERS, PALETTE, is_baseline, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

__all__ = ["label_efficiency"]


def label_efficiency(
    rows: Mapping[str, Mapping[int, float | Sequence[float]]],
    *,
    title: str = "",
    baselines: Collection[str] = BASELINES,
    chance: float | None = None,
) -> Figure:
    """Draw accuracy against the number of labels, as one line per row.

    Lines show means over seeds, and bands show one sample standard deviation to either side. The axis of labels is
    logarithmic. Each line has a marker of its own; the legend lists the lines from top to bottom at their right ends.

    Args:
        rows: Mapping from names to mappings from numbers of labels to an accuracy in [0, 1], or to the accuracies of
            several seeds, as from
            :meth:`Comparison.label_efficiency <pretextkit.functional.Comparison.label_efficiency>`.
        title: Title of the figure.
        baselines: Names of rows that are gray and dotted, with open markers, also if a comma and more follow the
            name; by default those that :func:`~pretextkit.functional.compare` adds.
        chance: Accuracy of random guesses, marked by a dashed line: one over the number of classes, if all are equally
            frequent. None draws no line.

    Returns:
        A figure to save or display.

    Raises:
        DataError: There is no row, a row has no accuracy, an accuracy is not in [0, 1], or a number of labels is
            below 1.
        OptionError: ``chance`` is not in [0, 1].
        PretextkitError: matplotlib is not installed.

    Example:
        >>> figure = label_efficiency({"random init": {100: [0.4, 0.5], 1000: [0.6, 0.6]}, "rotation": {100: 0.6}})
        >>> [text.get_text() for text in figure.legends[0].get_texts()]
        ['random init', 'rotation']
    """
    lines = {
        name: {labels: accuracies_of(name, row[labels]) for labels in sorted(row)} for name, row in rows.items() if row
    }
    if not lines or len(lines) < len(rows):
        raise DataError(
            "accuracies by number of labels for every row",
            got=f"none for {next((name for name in rows if name not in lines), 'any')!r}",
            fix="Pass a mapping from names to mappings from numbers of labels to accuracies.",
        )
    ticks = sorted({labels for line in lines.values() for labels in line})
    if ticks[0] < 1:
        raise DataError("numbers of labels >= 1", got=ticks[0], fix="Pass numbers of labels, not fractions.")
    several = any(len(values) > 1 for line in lines.values() for values in line.values())

    figure = new_figure(8, 4.2 + (0.3 if title else 0))
    axes = figure.add_subplot()
    ends: list[tuple[float, Line2D]] = []
    for number, (name, line) in enumerate(lines.items()):
        labels = list(line)
        means = [100 * mean(values) for values in line.values()]
        spreads = [100 * stdev(values) if len(values) > 1 else 0.0 for values in line.values()]
        style = _style(number, baseline=is_baseline(name, baselines))
        (drawn,) = axes.plot(labels, means, markersize=5, label=name, **style)
        ends.append((means[-1], drawn))
        if any(spreads):
            low, high = zip(*((m - s, m + s) for m, s in zip(means, spreads, strict=True)), strict=True)
            axes.fill_between(labels, low, high, color=drawn.get_color(), alpha=0.15, linewidth=0)
    axes.set_xscale("log")
    axes.set_xticks(ticks, [f"{labels:,}" for labels in ticks])
    axes.minorticks_off()
    if len(ticks) == 1:
        axes.set_xlim(ticks[0] / math.e, ticks[0] * math.e)
    axes.set_xlabel("labels")
    axes.set_ylabel(accuracy_label(several=several))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if chance is not None:
        accuracy = check_float("chance", chance, "[0, 1]", of=label_efficiency)
        ends.append((100 * accuracy, axes.axhline(100 * accuracy, label=f"chance {100 * accuracy:.3g} %", **CHANCE)))
    handles = [line for _, line in sorted(ends, key=lambda end: -end[0])]
    figure.legend(handles=handles, loc="outside right upper", fontsize="small", frameon=False)
    if title:
        axes.set_title(title)
    return figure


def _style(number: int, *, baseline: bool) -> dict[str, Any]:
    """Choose color, marker and dashes of line ``number``, distinct for twenty lines."""
    marker = MARKERS[number % len(MARKERS)]
    if baseline:
        return {"color": GRAY, "marker": marker, "markerfacecolor": "white", "linestyle": ":"}
    return {"color": PALETTE[number % 10], "marker": marker, "linestyle": DASHES[number % len(DASHES)]}
