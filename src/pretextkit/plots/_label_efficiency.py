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
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

__all__ = ["label_efficiency"]

COLORS = (*PALETTE[:3], *PALETTE[4:6])
"""Colors of the palette that are not gray."""

BEST = 3
"""Number of lines that have colors if there are more lines than colors."""

MUTED = "#a9a9a9"
"""Color of the other lines."""


def label_efficiency(
    rows: Mapping[str, Mapping[int, float | Sequence[float]]],
    *,
    title: str = "",
    baselines: Collection[str] = BASELINES,
    chance: float | None = None,
) -> Figure:
    """Draw accuracy against the number of labels, as one line per row.

    Lines show means over seeds, and bands show one sample standard deviation to either side. The axis of labels is
    logarithmic. A name stands beside the right end of its line. Of more than five lines beside the baselines, the
    three that end highest have colors; the rest are gray, thin and without bands, but keep markers of their own.

    Args:
        rows: Mapping from names to mappings from numbers of labels to an accuracy in [0, 1], or to the accuracies of
            several seeds, as from
            :meth:`Comparison.label_efficiency <pretextkit.functional.Comparison.label_efficiency>`.
        title: Title of the figure.
        baselines: Names of rows that are black and dotted, with open markers, also if a comma and more follow the
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
        >>> [text.get_text() for text in figure.axes[0].texts]
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

    figure = new_figure(8, max(4.8, 1 + 0.17 * len(lines)) + (0.3 if title else 0))
    axes = figure.add_subplot()
    colors = _colors({name: mean(list(line.values())[-1]) for name, line in lines.items()}, baselines)
    ends: list[tuple[Line2D, float, float]] = []
    for number, (name, line) in enumerate(lines.items()):
        labels = list(line)
        means = [100 * mean(values) for values in line.values()]
        spreads = [100 * stdev(values) if len(values) > 1 else 0.0 for values in line.values()]
        style = _style(number, colors[name], baseline=is_baseline(name, baselines))
        (drawn,) = axes.plot(labels, means, markersize=5, label=name, **style)
        ends.append((drawn, labels[-1], means[-1]))
        if any(spreads) and colors[name] != MUTED:
            low, high = zip(*((m - s, m + s) for m, s in zip(means, spreads, strict=True)), strict=True)
            axes.fill_between(labels, low, high, color=colors[name], alpha=0.15, linewidth=0)
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
        drawn = axes.axhline(100 * accuracy, label=f"chance {100 * accuracy:.3g} %", **CHANCE)
        ends.append((drawn, 1.0, 100 * accuracy))  # at the right end of the axes
    _name_ends(axes, ends, figure.get_figheight() - 1)  # about one inch is not the axes
    if title:
        axes.set_title(title)
    return figure


def _colors(ends: Mapping[str, float], baselines: Collection[str]) -> dict[str, str]:
    """Choose the color of each line from the accuracies at the right ends: gray for the lower ones of many."""
    ranked = [name for name in sorted(ends, key=lambda name: -ends[name]) if not is_baseline(name, baselines)]
    shown = ranked if len(ranked) <= len(COLORS) else ranked[:BEST]
    places = {name: place for place, name in enumerate(name for name in ends if name in shown)}
    return {
        name: COLORS[places[name]] if name in places else "black" if is_baseline(name, baselines) else MUTED
        for name in ends
    }


def _style(number: int, color: str, *, baseline: bool) -> dict[str, Any]:
    """Choose marker and dashes of line ``number``, distinct for twenty lines without their color."""
    marker = MARKERS[number % len(MARKERS)]
    if baseline:
        return {"color": color, "marker": marker, "markerfacecolor": "white", "linestyle": ":", "zorder": 3}
    faint = {"linewidth": 0.9, "zorder": 1.5} if color == MUTED else {"linewidth": 1.8, "zorder": 2.5}
    return {"color": color, "marker": marker, "linestyle": DASHES[number % len(DASHES)], **faint}


def _name_ends(axes: Axes, ends: list[tuple[Line2D, float, float]], inches: float) -> None:
    """Write the name of each line beside its right end; a thin line leads to a name that had to move."""
    ends = sorted(ends, key=lambda end: -end[2])
    low, high = axes.get_ylim()
    places = spread_apart([y for _, _, y in ends], 0.17 * (high - low) / inches)
    for (line, x, y), place in zip(ends, places, strict=True):
        color = GRAY if line.get_color() == MUTED else line.get_color()
        leader = {"arrowstyle": "-", "color": color, "linewidth": 0.7, "linestyle": ":", "relpos": (0, 0.5)}
        axes.annotate(
            str(line.get_label()),
            (x, y),
            (1.05, place),
            xycoords=line.get_transform(),
            textcoords=axes.get_yaxis_transform(),
            arrowprops=leader,
            color=color,
            fontsize="small",
            va="center",
        )


def spread_apart(values: Sequence[float], distance: float) -> list[float]:
    """Move falling values as little as possible (least squares), until neighbors are ``distance`` apart.

    Example:
        >>> spread_apart([9.0, 5.0, 5.0, 1.0], 2.0)
        [9.0, 6.0, 4.0, 1.0]
    """
    blocks: list[list[float]] = []
    for place, value in enumerate(values):
        blocks.append([value + place * distance])
        while len(blocks) > 1 and mean(blocks[-2]) < mean(blocks[-1]):
            last = blocks.pop()
            blocks[-1] += last
    flat = [mean(block) for block in blocks for _ in block]
    return [value - place * distance for place, value in enumerate(flat)]
