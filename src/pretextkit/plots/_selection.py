"""Plot of the images chosen to be labeled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch  # noqa: F401 - in the example
from torch import Tensor, nn

from pretextkit._color import as_float
from pretextkit._validation import check_int
from pretextkit.errors import ShapeError
from pretextkit.plots._embedding import principal_components
from pretextkit.plots._figures import ORANGE, draw_image, new_figure
from pretextkit.selection import Selection

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["selection"]

COLUMNS = 10

NUMBERED = 20
"""Chosen images whose place in the order is written on the map."""

PLAIN: dict[str, Any] = {"c": "#999999", "linewidths": 0, "label": "images"}
MARKED: dict[str, Any] = {"s": 28, "c": ORANGE, "edgecolors": "black", "linewidths": 0.6, "label": "chosen"}


def selection(
    chosen: Selection, images: Tensor, features: Tensor | None = None, *, count: int = 50, title: str = ""
) -> Figure:
    """Draw the chosen images in their order, and where they lie among all images.

    The map shows the features, scaled to unit length as for the choice, on their first two principal components. It is
    only a projection: images that lie on each other there may be far apart.

    Args:
        chosen: Result of :func:`~pretextkit.functional.select_to_label`.
        images: All images ``n c h w`` among which was chosen, uint8 or float in [0, 1]; or the chosen ones alone, in
            their order.
        features: Features ``n d`` of all images, for the map; None draws no map.
        count: Maximum number of images.
        title: Title of the figure.

    Returns:
        A figure to save or display.

    Raises:
        ShapeError: There are other numbers of images or features.
        OptionError: ``count`` is below 1.
        PretextkitError: matplotlib is not installed.

    Example:
        >>> from pretextkit.functional import select_to_label
        >>> features = torch.eye(6)[:, :4] + 0.1
        >>> chosen = select_to_label(features, 2, method="k-center")
        >>> figure = selection(chosen, torch.rand(6, 1, 8, 8), features)
        >>> [axes.get_title() for axes in figure.axes]
        ['1', '2', '2 of 6 images']
    """
    count = min(check_int("count", count, of=selection), len(chosen))
    if images.ndim != 4 or len(images) not in (len(chosen.files), len(chosen)):
        raise ShapeError(
            f"{len(chosen.files)} images n c h w, or the {len(chosen)} chosen ones",
            got=f"shape {tuple(images.shape)}",
            fix="Pass the images among which select_to_label has chosen.",
        )
    if features is not None and (features.ndim != 2 or len(features) != len(chosen.files)):
        raise ShapeError(
            f"features {len(chosen.files)} d of all images",
            got=f"shape {tuple(features.shape)}",
            fix="Pass the features of one layer from extract_features.",
        )
    shown = images[chosen.indices[:count]] if len(images) == len(chosen.files) else images[:count]
    columns, lines = min(COLUMNS, count), -(-count // COLUMNS)
    height = 0.95 * lines + 0.3 * bool(title)
    figure = new_figure(max(0.8 * columns, 4.0), height + (4.5 if features is not None else 0))
    grid = figure.add_gridspec(lines + 1 if features is not None else lines, columns,
                               height_ratios=[0.95] * lines + [4.5] * (features is not None))  # fmt: skip
    for place, image in enumerate(shown):
        axes = figure.add_subplot(grid[place // columns, place % columns])
        draw_image(axes, as_float(image))
        axes.set_title(str(place + 1), fontsize="small")
    if features is not None:
        _draw_map(figure.add_subplot(grid[lines, :]), chosen, features)
    if title:
        figure.suptitle(title)
    return figure


def _draw_map(axes: Axes, chosen: Selection, features: Tensor) -> None:
    points, _ = principal_components(nn.functional.normalize(features.detach().cpu().double()))
    size = min(max(8000 / len(points), 2.0), 20.0)
    for rows, style in ((points, PLAIN | {"s": size}), (points[chosen.indices], MARKED)):
        x, y = rows.unbind(1)
        axes.scatter(x.numpy(), y.numpy(), **style)
    for place, row in enumerate(chosen.indices[:NUMBERED].tolist(), 1):
        at = (float(points[row, 0]), float(points[row, 1]))
        axes.annotate(str(place), at, xytext=(3, 3), textcoords="offset points", fontsize="small")
    axes.set(title=f"{len(chosen)} of {len(chosen.files)} images", aspect="equal")
    axes.set_xlabel("principal component 1")
    axes.set_ylabel("principal component 2")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize="small")
