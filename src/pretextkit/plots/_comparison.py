"""Plot of accuracies as bars."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from statistics import mean, stdev
from typing import TYPE_CHECKING

from pretextkit._validation import check_float
from pretextkit.errors import DataError
from pretextkit.plots._figures import BASELINES, CHANCE, GRAY, is_baseline, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["accuracies_of", "accuracy_label", "comparison"]


def comparison(
    rows: Mapping[str, float | Sequence[float]],
    *,
    title: str = "",
    baselines: Collection[str] = BASELINES,
    chance: float | None = None,
) -> Figure:
    """Draw accuracies in percent as horizontal bars, the highest first.

    Rows with accuracies of several seeds show the mean, and the sample standard deviation as an error bar. The axis
    starts at zero, because readers compare bars by their length.

    Args:
        rows: Mapping from names to an accuracy in [0, 1], or to the accuracies of several seeds.
        title: Title of the figure.
        baselines: Names of rows that are gray and hatched, also if a comma and more follow the name; by default
            those that :func:`~pretextkit.functional.compare` adds.
        chance: Accuracy of random guesses, marked by a dashed line: one over the number of classes, if all are equally
            frequent. None draws no line.

    Returns:
        A figure to save or display.

    Raises:
        DataError: There is no row, a row has no accuracy, or an accuracy is not in [0, 1].
        OptionError: ``chance`` is not in [0, 1].
        PretextkitError: matplotlib is not installed.

    Example:
        >>> figure = comparison({"random init": [0.61, 0.63], "rotation": [0.78, 0.77]}, chance=0.1)
        >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
        ['rotation', 'random init']
    """
    accuracies = {name: accuracies_of(name, row) for name, row in rows.items()}
    accuracies = dict(sorted(accuracies.items(), key=lambda row: -mean(row[1])))
    if not accuracies:
        raise DataError("at least one row to compare", got="none", fix="Pass a mapping from names to accuracies.")
    means = [100 * mean(values) for values in accuracies.values()]
    spreads = [100 * stdev(values) if len(values) > 1 else math.nan for values in accuracies.values()]
    several = any(len(values) > 1 for values in accuracies.values())

    figure = new_figure(7, 1.2 + 0.45 * len(accuracies) + (0.3 if title else 0))
    axes = figure.add_subplot()
    bars = axes.barh(range(len(means)), means, height=0.7, color="tab:blue", alpha=0.75)
    for name, bar in zip(accuracies, bars, strict=True):
        if is_baseline(name, baselines):
            bar.set(facecolor="white", edgecolor=GRAY, hatch="////", alpha=1)
    if several:
        axes.errorbar(means, range(len(means)), xerr=spreads, fmt="none", ecolor="black", capsize=3, clip_on=False)
    for bar, height, spread in zip(bars, means, spreads, strict=True):
        text = f"{height:.1f}" if math.isnan(spread) else f"{height:.1f} ± {spread:.1f}"
        right = height + (0 if math.isnan(spread) else spread)
        end = (right, bar.get_y() + bar.get_height() / 2)
        axes.annotate(text, end, (5, 0), textcoords="offset points", va="center", annotation_clip=False)
    axes.set_yticks(range(len(means)), list(accuracies))
    axes.invert_yaxis()
    axes.set_xlim(0, 100)  # numbers beside long bars stand outside, where the layout leaves room for them
    axes.set_xlabel(accuracy_label(several=several))
    axes.spines[["top", "right"]].set_visible(False)
    if chance is not None:
        accuracy = check_float("chance", chance, "[0, 1]", of=comparison)
        axes.axvline(100 * accuracy, label=f"chance {100 * accuracy:.3g} %", **CHANCE)
    _legend(figure, axes, baseline=any(is_baseline(name, baselines) for name in accuracies))
    if title:
        axes.set_title(title)
    return figure


def _legend(figure: Figure, axes: Axes, *, baseline: bool) -> None:
    """Explain hatched bars and the dashed line, where there are any."""
    from matplotlib.patches import Patch

    handles, _ = axes.get_legend_handles_labels()
    if baseline:
        handles.append(Patch(facecolor="white", edgecolor=GRAY, hatch="////", label="baseline, no pretext task"))
    if handles:
        figure.legend(handles=handles, loc="outside lower right", ncols=2, fontsize="small", frameon=False)


def accuracy_label(*, several: bool) -> str:
    """Write the label of an axis of accuracies, of one seed or of several.

    Example:
        >>> accuracy_label(several=False)
        'accuracy in % (higher is better)'
    """
    return "accuracy in % (higher is better)" + ("\nmean ± standard deviation over seeds" if several else "")


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
