"""Plot of nearest neighbors in feature space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pretextkit._color import as_float
from pretextkit._validation import check_int, check_labels
from pretextkit.errors import OptionError, ShapeError
from pretextkit.evaluation._neighbor_search import cosine_neighbors
from pretextkit.plots._figures import ORANGE, SKY, check_names, class_name, draw_image, new_figure
from pretextkit.plots._inputs import check_plotted_features, check_plotted_images

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["nearest_neighbors"]


def nearest_neighbors(
    query_images: Tensor,
    database_images: Tensor,
    query_features: Tensor,
    database_features: Tensor,
    *,
    query_labels: Any = None,
    database_labels: Any = None,
    class_names: Sequence[str] = (),
    k: int = 6,
    count: int = 6,
    title: str = "",
    channels: Sequence[int] | None = None,
) -> Figure:
    """Draw query images beside their nearest neighbors in a database, nearest first.

    Titles give the cosine similarity of the features, as in :func:`~pretextkit.functional.knn_probe`. With labels,
    frames are solid for neighbors of the query's class and dashed for others. A query in the database finds itself:
    take queries from the test images and the database from the training images.

    Args:
        query_images: ``m c h w``, uint8 or float in [0, 1].
        database_images: ``n c h w``, uint8 or float in [0, 1].
        query_features: ``m d``, features of the queries.
        database_features: ``n d``, features of the database.
        query_labels: ``m``, labels of the queries; -1 is unlabeled. None draws no frames.
        database_labels: ``n``, labels of the database; -1 is unlabeled.
        class_names: Names of the labels 0, 1, …; by default the numbers.
        k: Number of neighbors; the full database if it is smaller.
        count: Maximum number of queries.
        title: Title of the figure.
        channels: One or three channels to draw, as gray or as red, green and blue; by default the first.

    Returns:
        A figure to save or display.

    Raises:
        DataError: Images or features are no tensors.
        ShapeError: Features or labels do not match the images, or the feature widths differ.
        OptionError: ``k`` or ``count`` is below 1, only one side has labels, a class has no name, or ``channels`` are
            no channels of the images.
        PretextkitError: matplotlib is not installed.

    Example:
        >>> images, features = torch.rand(3, 1, 8, 8), torch.eye(3)[:, :2] + 0.1
        >>> figure = nearest_neighbors(images[:1], images[1:], features[:1], features[1:], k=2)
        >>> [axes.get_title() for axes in figure.axes]
        ['query', 'cosine 0.768', '0.180']
    """
    check_int("count", count, of=nearest_neighbors)
    k = check_int("k", k, of=nearest_neighbors)
    for images in (query_images, database_images):
        check_plotted_images(images)
    for features in (query_features, database_features):
        check_plotted_features(features)
    sizes = (len(query_images), len(database_images))
    pair = (query_features, database_features)
    if any(each.ndim != 2 for each in pair) or (*map(len, pair),) != sizes or len({each.shape[1] for each in pair}) > 1:
        raise ShapeError(
            f"features {sizes[0]} d and {sizes[1]} d of the images",
            got=f"shapes {tuple(query_features.shape)} and {tuple(database_features.shape)}",
            fix="Pass features of the same layer from extract_features for both.",
        )
    if (query_labels is None) != (database_labels is None):
        raise OptionError(
            "labels of queries and of the database, or neither",
            got="one of the two",
            fix="Pass query_labels and database_labels.",
        )
    query_classes, database_classes = (
        check_labels([-1] * size if labels is None else labels, size)
        for labels, size in zip((query_labels, database_labels), sizes, strict=True)
    )
    check_names(int(torch.cat([query_classes, database_classes]).max()) + 1, class_names)
    queries, database = (each.detach().float().cpu() for each in pair)
    similarity, nearest = cosine_neighbors(queries[:count], database, min(k, len(database)))

    lines, columns = nearest.shape[0], nearest.shape[1] + 1
    figure = new_figure(
        1.15 * columns + 0.2, 1.5 * lines + (0.3 if query_labels is not None else 0) + 0.3 * bool(title)
    )
    for line in range(lines):
        axes = figure.add_subplot(lines, columns, line * columns + 1)
        _show(axes, query_images[line], int(query_classes[line]), class_names, channels)
        axes.set_title("query" if line == 0 else "", fontsize="small")
        for column, row in enumerate(nearest[line].tolist()):
            axes = figure.add_subplot(lines, columns, line * columns + column + 2)
            _show(axes, database_images[row], int(database_classes[row]), class_names, channels)
            prefix = "cosine " if line == column == 0 else ""
            axes.set_title(f"{prefix}{float(similarity[line, column]):.3f}", fontsize="small")
            if query_classes[line] >= 0 and database_classes[row] >= 0:
                same = bool(query_classes[line] == database_classes[row])
                axes.spines[:].set(**_frame(same=same), capstyle="butt")
    if query_labels is not None:
        _legend(figure)
    if title:
        figure.suptitle(title)
    return figure


def _show(axes: Axes, image: Tensor, label: int, class_names: Sequence[str], channels: Sequence[int] | None) -> None:
    draw_image(axes, as_float(image), channels)
    if label >= 0:
        axes.set_xlabel(class_name(label, class_names), fontsize="small")


def _frame(*, same: bool) -> dict[str, Any]:
    return {"color": SKY if same else ORANGE, "linewidth": 3.0, "linestyle": "-" if same else (0, (2, 1))}


def _legend(figure: Figure) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], label=name, **_frame(same=same))
        for same, name in ((True, "same class"), (False, "another class"))
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, fontsize="small", frameon=False)
