"""Features as points in the plane."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from pretextkit._validation import check_labels
from pretextkit.errors import DataError, ShapeError
from pretextkit.plots._figures import MARKERS, PALETTE, class_name, new_figure, require_names

if TYPE_CHECKING:
    from matplotlib.collections import PathCollection
    from matplotlib.figure import Figure

__all__ = ["embedding", "principal_components"]

LEGEND_ROWS = 20


def embedding(features: Tensor, labels: Any = None, class_names: Sequence[str] = (), *, title: str = "") -> Figure:
    """Draw features as points, in the color and the marker of their class.

    Features of more than two columns are projected onto their first two principal components, the plane in which they
    vary most; the axes say how much of their variance that shows. It is a shadow: what is apart in it is apart, but
    what is together in it need not be. Two columns are drawn as they are, so that the output of t-SNE or UMAP can be
    passed.

    Args:
        features: ``n d``.
        labels: ``n``; -1 is unlabeled and drawn small and gray.
        class_names: Of the labels 0, 1, …; without them, the labels' numbers.
        title: Written above.

    Returns:
        A figure to save or display.

    Raises:
        ShapeError: The features are not ``n d`` with two or more of each, or there is not one label for each.
        DataError: Features are NaN or infinite.
        OptionError: A class has no name.
        PretextkitError: matplotlib is not installed.

    Example:
        >>> figure = embedding(torch.tensor([[0.0, 0.0, 3.0], [4.0, 0.0, 0.0], [8.0, 0.0, 3.0]]), [0, 1, 1])
        >>> figure.axes[0].get_xlabel()
        'principal component 1 (84.2 % of variance)'
    """
    figure = new_figure(6.4, 5 + (0.3 if title else 0))
    points = features.detach().cpu().double()
    if points.ndim != 2 or min(points.shape) < 2:
        raise ShapeError(
            "features n d, two or more of each",
            got=f"shape {tuple(features.shape)}",
            fix="Pass what extract_features gives for one layer, or points in the plane.",
        )
    if not points.isfinite().all():
        raise DataError("finite features", got="NaN or inf", fix="Check the model's weights.")
    classes = torch.full((len(points),), -1) if labels is None else check_labels(labels, len(points))
    require_names(int(classes.max()) + 1, class_names)

    names = ["dimension 1", "dimension 2"]
    if points.shape[1] > 2:
        points, shares = principal_components(points)
        names = [f"principal component {i} ({100 * share:.1f} % of variance)" for i, share in enumerate(shares, 1)]
    axes = figure.add_subplot()
    size = min(max(24000 / len(points), 8.0), 40.0)
    for label in torch.unique(classes).tolist():
        x, y = points[classes == label].unbind(1)
        if label < 0:
            name = "images" if labels is None else "unlabeled"
            axes.scatter(x.numpy(), y.numpy(), size / 2, "#999999", marker=".", linewidths=0, label=name)
            continue
        # every hundred classes have each pair of a color and a marker once
        color, marker = PALETTE[label % 10], MARKERS[(label + label // 10) % 10]
        name = class_name(label, class_names)
        axes.scatter(x.numpy(), y.numpy(), size, color, marker=marker, linewidths=0, alpha=0.75, label=name)
    low, high = points.amin(0), points.amax(0)
    reach = 0.55 * float((high - low).max()) or 1.0
    (left, right), (bottom, top) = ((middle - reach, middle + reach) for middle in ((low + high) / 2).tolist())
    axes.set(xlim=(left, right), ylim=(bottom, top), aspect="equal")  # distances are the same in every direction
    axes.set_xlabel(names[0])
    axes.set_ylabel(names[1])
    axes.spines[["top", "right"]].set_visible(False)
    if labels is not None:
        columns = -(-len(axes.collections) // LEGEND_ROWS)
        legend = figure.legend(loc="outside right upper", ncols=columns, frameon=False, fontsize="small")
        for handle in legend.legend_handles:
            cast("PathCollection", handle).set(sizes=[40.0], alpha=1.0)  # to be seen where points are small
    if title:
        axes.set_title(title)
    figure.draw_without_rendering()  # axes of a fixed aspect find their place in a second layout only
    return figure


def principal_components(features: Tensor) -> tuple[Tensor, list[float]]:
    """Project ``n d`` onto the two directions in which they vary most.

    A direction has two signs; here its largest weight is positive, so that the picture is the same everywhere.

    Returns:
        ``n 2``, around zero, and the shares of the whole variance that the two have; zeros where nothing varies.

    Example:
        >>> points, shares = principal_components(torch.tensor([[1.0, 0.0, 0.0], [3.0, 0.0, 0.0]]))
        >>> points[:, 0], shares
        (tensor([-1.,  1.]), [1.0, 0.0])
    """
    centered = features - features.mean(0)
    _, lengths, directions = torch.linalg.svd(centered, full_matrices=False)
    top = directions[:2]
    signs = top.gather(1, top.abs().argmax(1, keepdim=True)).sign()
    variances = lengths.square()
    shares = variances[:2] / variances.sum().clamp(min=torch.finfo(variances.dtype).tiny)
    return centered @ (signs * top).T, shares.tolist()
