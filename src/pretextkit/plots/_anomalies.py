"""Plots of anomaly scores: reconstructions of extreme images, and score histograms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pretextkit._color import as_float
from pretextkit._validation import check_int
from pretextkit.errors import DataError, ShapeError
from pretextkit.plots._figures import displayable, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["reconstruction_panel", "score_histogram"]

BINS = 60


def reconstruction_panel(
    images: Tensor,
    reconstructions: Tensor,
    maps: Tensor,
    scores: Tensor,
    *,
    count: int = 6,
    title: str = "",
    channels: Sequence[int] | None = None,
) -> Figure:
    """Draw the highest- and lowest-scoring images, their reconstructions and error maps.

    All maps share one scale that starts at 0: dark maps have low error. An error on every edge indicates a model that
    is too weak; no error anywhere indicates a model that copies its input.

    Args:
        images: ``n c h w``, uint8 or float in [0, 1].
        reconstructions: ``n c h w``, float in [0, 1].
        maps: ``n h w``, at least 0.
        scores: ``n``.
        count: Maximum number of images from either end.
        title: Title of the figure.
        channels: One or three channels to draw, as gray or as red, green and blue; by default the first.

    Returns:
        A figure to save or display.

    Raises:
        OptionError: ``count`` is below 1, or ``channels`` are no channels of the images.
        ShapeError: Images, reconstructions, maps and scores do not match.
        PretextkitError: matplotlib is not installed.

    Example:
        >>> images = torch.rand(5, 3, 8, 8)
        >>> figure = reconstruction_panel(images, images, torch.zeros(5, 8, 8), torch.arange(5.0), count=2)
        >>> [axes.get_title() for axes in figure.axes[::3]]
        ['highest\\n4', '3', 'lowest\\n0', '1']
    """
    check_int("count", count, of=reconstruction_panel)
    size = (len(images), *images.shape[2:])
    if reconstructions.shape != images.shape or maps.shape != size or scores.shape != size[:1]:
        shapes = ", ".join(str(tuple(each.shape)) for each in (images, reconstructions, maps, scores))
        raise ShapeError(
            "images and reconstructions n c h w, maps n h w and scores n of the same images",
            got=f"shapes {shapes}",
            fix="Pass the result of reconstruction_anomaly_score with its images.",
        )
    order = scores.cpu().argsort(descending=True)
    highest, lowest = order[:count].tolist(), order[count:].flip(0)[:count].tolist()
    chosen = [*highest, *lowest]
    largest_error = max(float(maps[chosen].max()), 1e-12)

    columns = len(chosen)
    figure = new_figure(1.1 * columns + 1.2, 3.7 + (0.3 if title else 0))
    for column, row in enumerate(chosen):
        pictures = (displayable(each[row], channels) for each in (as_float(images), reconstructions))
        shown = (*pictures, maps[row].cpu())
        for line, (name, pixels) in enumerate(zip(("input", "reconstruction", "error"), shown, strict=True)):
            axes = figure.add_subplot(3, columns, line * columns + column + 1)
            is_map = line == 2
            cmap, top = ("magma", largest_error) if is_map else ("gray", 1)
            axes.imshow(pixels, cmap=cmap, vmin=0, vmax=top, interpolation="nearest")
            axes.set_xticks([])
            axes.set_yticks([])
            if column == 0:
                axes.set_ylabel(name, rotation="horizontal", ha="right", va="center")
            if line == 0:
                head = {0: "highest\n", len(highest): "lowest\n"}.get(column, "")
                axes.set_title(f"{head}{float(scores[row]):.3g}", fontsize="small")
    if title:
        figure.suptitle(title)
    return figure


def score_histogram(normal: Tensor, anomalous: Tensor, *, threshold: float | None = None, title: str = "") -> Figure:
    """Draw histograms of the scores of normal and of anomalous images, each normalized to sum 1.

    The last bar also counts the highest 1 % of all scores, because outliers would compress the other bars. Bars of
    anomalous images are hatched.

    Args:
        normal: ``n`` scores of normal images.
        anomalous: ``m`` scores of anomalous images.
        threshold: Score to mark by a line, for example the threshold of a calibration; None draws no line.
        title: Title of the figure.

    Returns:
        A figure to save or display.

    Raises:
        DataError: There are no scores, or one is NaN or infinite.
        PretextkitError: matplotlib is not installed.

    Example:
        >>> figure = score_histogram(torch.rand(50), 0.5 + torch.rand(20), threshold=0.9)
        >>> [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
        ['normal (50)', 'anomalous (20)', 'threshold 0.9']
    """
    both = torch.cat([normal.flatten(), anomalous.flatten()]).float().cpu()
    nonfinite = int((~both.isfinite()).sum())
    if nonfinite or not (normal.numel() and anomalous.numel()):
        raise DataError(
            "finite scores of normal and of anomalous images",
            got=f"{normal.numel()} and {anomalous.numel()} scores, of which {nonfinite} are NaN or infinite",
            fix="Pass AnomalyScores.scores of both kinds of images.",
        )
    low, high = float(both.min()), float(both.sort().values[int(0.99 * (len(both) - 1))])
    if threshold is not None:
        low, high = min(low, threshold), max(high, threshold)
    high = high if high > low else low + 1.0
    figure = new_figure(6, 3.2)
    from matplotlib.colors import to_rgba  # after new_figure, which names a missing matplotlib

    axes = figure.add_subplot()
    kinds = (("normal", normal, "tab:blue", None), ("anomalous", anomalous, "tab:red", "///"))
    for name, scores, color, hatch in kinds:
        values = scores.detach().flatten().float().cpu().clamp(max=high)
        weights = torch.full((len(values),), 1 / len(values))
        label = f"{name} ({len(values)})"
        style: dict[str, Any] = {"facecolor": to_rgba(color, 0.4), "edgecolor": color, "hatch": hatch, "label": label}
        axes.hist(values.numpy(), BINS, range=(low, high), weights=weights.numpy(), **style)
    if threshold is not None:
        axes.axvline(threshold, color="black", linestyle="--", linewidth=1, label=f"threshold {threshold:.3g}")
    axes.set_xlabel("anomaly score (higher is more anomalous)")
    axes.set_ylabel("fraction of images")
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=3)
    axes.spines[["top", "right"]].set_visible(False)
    if title:
        axes.set_title(title)
    return figure
