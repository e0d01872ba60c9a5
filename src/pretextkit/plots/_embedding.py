"""Scatter plot of features in two dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from pretextkit._validation import check_labels
from pretextkit.errors import DataError, ShapeError
from pretextkit.plots._figures import MARKERS, PALETTE, check_names, class_name, new_figure
from pretextkit.plots._inputs import check_plotted_features

if TYPE_CHECKING:
    from matplotlib.collections import PathCollection
    from matplotlib.figure import Figure

__all__ = ["embedding", "principal_components"]

LEGEND_ROWS = 20


def embedding(features: Tensor, labels: Any = None, class_names: Sequence[str] = (), *, title: str = "") -> Figure:
    """Draw features as points, with a color and a marker for each class.

    Features with more than two columns are projected onto their first two principal components; the axes show the
    explained variance. Points that are separate in the projection are separate in feature space, but points that are
    close in the projection may not be. Two columns are drawn directly, for example the output of t-SNE or UMAP.

    Args:
        features: ``n d``.
        labels: ``n``; points with label -1 (unlabeled) are small and gray. None draws all points in one style.
        class_names: Names of the labels 0, 1, …; by default the numbers.
        title: Title of the figure.

    Returns:
        A figure to save or display.

    Raises:
        ShapeError: The features are not ``n d`` with n, d >= 2, or there is not one label for each row.
        DataError: Features are no tensor, NaN or infinite.
        OptionError: A class has no name.
        PretextkitError: matplotlib is not installed.

    Example:
        >>> figure = embedding(torch.tensor([[0.0, 0.0, 3.0], [4.0, 0.0, 0.0], [8.0, 0.0, 3.0]]), [0, 1, 1])
        >>> figure.axes[0].get_xlabel()
        'principal component 1 (84.2 % of variance)'
    """
    check_plotted_features(features)
    figure = new_figure(6.4, 5 + (0.3 if title else 0))
    points = features.detach().cpu().double()
    if points.ndim != 2 or min(points.shape) < 2:
        raise ShapeError(
            "features n d with n, d >= 2",
            got=f"shape {tuple(features.shape)}",
            fix="Pass the features of one layer from extract_features, or points n 2.",
        )
    if not points.isfinite().all():
        raise DataError("finite features", got="NaN or inf", fix="Check the model's weights.")
    classes = torch.full((len(points),), -1) if labels is None else check_labels(labels, len(points))
    check_names(int(classes.max()) + 1, class_names)

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
        # 100 consecutive classes have distinct pairs of color and marker
        color, marker = PALETTE[label % 10], MARKERS[(label + label // 10) % 10]
        name = class_name(label, class_names)
        axes.scatter(x.numpy(), y.numpy(), size, color, marker=marker, linewidths=0, alpha=0.75, label=name)
    low, high = points.amin(0), points.amax(0)
    reach = 0.55 * float((high - low).max()) or 1.0
    (left, right), (bottom, top) = ((middle - reach, middle + reach) for middle in ((low + high) / 2).tolist())
    axes.set(xlim=(left, right), ylim=(bottom, top), aspect="equal")  # equal scales keep distances comparable
    axes.set_xlabel(names[0])
    axes.set_ylabel(names[1])
    axes.spines[["top", "right"]].set_visible(False)
    if labels is not None:
        columns = -(-len(axes.collections) // LEGEND_ROWS)
        legend = figure.legend(loc="outside right upper", ncols=columns, frameon=False, fontsize="small")
        for handle in legend.legend_handles:
            cast("PathCollection", handle).set(sizes=[40.0], alpha=1.0)  # visible even if points are small
    if title:
        axes.set_title(title)
    figure.draw_without_rendering()  # axes with a fixed aspect need a second layout pass
    return figure


def principal_components(features: Tensor) -> tuple[Tensor, list[float]]:
    """Project features ``n d`` onto their first two principal components.

    The sign of a component is arbitrary; here its largest weight is positive, which makes the result reproducible.

    Returns:
        Centered points ``n 2``, and the fractions of variance explained by the two components (0 for constant
        features).

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
