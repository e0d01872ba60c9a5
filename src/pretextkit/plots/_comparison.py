"""Plot of accuracies as bars."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from statistics import mean, stdev
from typing import TYPE_CHECKING

from pretextkit.errors import DataError
from pretextkit.plots._figures import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["accuracies_of", "comparison"]


def comparison(
    rows: Mapping[str, float | Sequence[float]],
    *,
    title: str = "",
    baselines: Collection[str] = ("random init", "supervised"),
) -> Figure:
    """Draw accuracies in percent as horizontal bars.

    Rows with accuracies of several seeds show the mean, and the sample standard deviation as an error bar. The axis
    starts at zero, because readers compare bars by their length.

    Args:
        rows: Mapping from names to an accuracy in [0, 1], or to the accuracies of several seeds; drawn from top to
            bottom.
        title: Title of the figure.
        baselines: Names of rows that are drawn in gray; by default those that :func:`~pretextkit.functional.compare`
            adds.

    Returns:
        A figure to save or display.

    Raises:
        DataError: There is no row, a row has no accuracy, or an accuracy is not in [0, 1].
        PretextkitError: matplotlib is not installed.

    Example:
        >>> figure = comparison({"random init": [0.61, 0.63], "rotation": [0.78, 0.77]})
        >>> figure.axes[0].get_xlabel()
        'accuracy in %, mean and standard deviation over seeds'
    """
    accuracies = {name: accuracies_of(name, row) for name, row in rows.items()}
    if not accuracies:
        raise DataError("at least one row to compare", got="none", fix="Pass a mapping from names to accuracies.")
    means = [100 * mean(values) for values in accuracies.values()]
    spreads = [100 * stdev(values) if len(values) > 1 else math.nan for values in accuracies.values()]
    several = any(len(values) > 1 for values in accuracies.values())

    figure = new_figure(7, 0.8 + 0.45 * len(accuracies) + (0.3 if title else 0))
    axes = figure.add_subplot()
    colors = ["tab:gray" if name in baselines else "tab:blue" for name in accuracies]
    bars = axes.barh(range(len(means)), means, height=0.7, color=colors, alpha=0.75)
    if several:
        axes.errorbar(means, range(len(means)), xerr=spreads, fmt="none", ecolor="black", capsize=3)
    for bar, height, spread in zip(bars, means, spreads, strict=True):
        text = f"{height:.1f}" if math.isnan(spread) else f"{height:.1f} ± {spread:.1f}"
        right = height + (0 if math.isnan(spread) else spread)
        axes.annotate(
            text, (right, bar.get_y() + bar.get_height() / 2), (5, 0), textcoords="offset points", va="center"
        )
    axes.set_yticks(range(len(means)), list(accuracies))
    axes.invert_yaxis()
    axes.set_xlim(0, 118)  # leaves room for the numbers beside bars of 100 %
    axes.set_xticks(range(0, 101, 20))
    axes.set_xlabel("accuracy in %" + (", mean and standard deviation over seeds" if several else ""))
    axes.spines[["top", "right"]].set_visible(False)
    if title:
        axes.set_title(title)
    return figure


def accuracies_of(name: str, row: float | Sequence[float]) -> list[float]:
    """Convert the accuracy or accuracies of a row to a list.

    Raises:
        DataError: There is no accuracy, or one is not in [0, 1].
    """
    values = [float(value) for value in row] if isinstance(row, Sequence) else [float(row)]
    wrong = [value for value in values if not 0 <= value <= 1]
    if wrong or not values:
        raise DataError(
            f"accuracies of {name!r} in [0, 1]",
            got=wrong[0] if wrong else "none",
            fix="Pass fractions, not percentages.",
        )
    return values
