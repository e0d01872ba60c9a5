"""Plot of the grid from which a task cuts patches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from pretextkit._color import as_float
from pretextkit._validation import check_int
from pretextkit.errors import ShapeError
from pretextkit.plots._figures import ORANGE, SKY, draw_image, new_figure, outlined
from pretextkit.tasks._jigsaw_context import OFFSETS
from pretextkit.tasks._patches import PatchLayout

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["patch_layout"]


def patch_layout(
    images: Tensor,
    layout: PatchLayout | None = None,
    *,
    count: int = 4,
    title: str = "",
    channels: Sequence[int] | None = None,
) -> Figure:
    """Draw the center patch of a relative patch location task and its eight neighbors on images.

    Neighbors are numbered by their position, which is the label of the task; a dotted line shows the range of jitter.
    The grid is drawn in the center; a task places it at random in larger images. Check whether patches are large enough
    to recognize their content.

    Args:
        images: ``n c h w``, uint8 or float in [0, 1].
        layout: Patch, gap and jitter in pixels; None fits them to the shorter side of the images, as the tasks do.
        count: Maximum number of images.
        title: Title of the figure.
        channels: One or three channels to draw, as gray or as red, green and blue; by default the first.

    Returns:
        A figure to save or display.

    Raises:
        OptionError: ``count`` is below 1, or ``channels`` are no channels of the images.
        ShapeError: The grid is larger than the images.
        PretextkitError: matplotlib is not installed.

    Example:
        >>> import torch
        >>> figure = patch_layout(torch.rand(1, 3, 32, 32))
        >>> [text.get_text() for text in figure.legends[0].get_texts()]
        ['center, 8x8 pixels', 'neighbors 0 to 7, 3 pixels apart', 'jitter of at most 1 pixel']
    """
    check_int("count", count, of=patch_layout)
    height, width = images.shape[-2:]
    if images.ndim != 4 or not len(images):
        raise ShapeError("images n c h w, at least one", got=f"shape {tuple(images.shape)}", fix="Pass a batch.")
    layout = layout or PatchLayout.fitting(min(height, width))
    if min(height, width) < layout.span:
        raise ShapeError(
            f"images of at least {layout.span} pixels a side, for {layout}",
            got=f"{height}x{width}",
            fix="Enlarge the images, or choose a smaller layout.",
        )
    columns = min(count, len(images))
    figure = new_figure(2.4 * columns, 2.4 * height / width + 0.4 + (0.3 if title else 0))
    for column in range(columns):
        axes = figure.add_subplot(1, columns, column + 1)
        draw_image(axes, as_float(images[column]), channels)
        _draw_grid(axes, layout, height, width)
    _legend(figure, layout)
    if title:
        figure.suptitle(title)
    return figure


def _draw_grid(axes: Axes, layout: PatchLayout, height: int, width: int) -> None:
    from matplotlib.patches import Rectangle

    step = layout.patch + layout.gap
    # Corner of the center patch without jitter; matplotlib centers pixels on integer coordinates
    top, left = ((side - layout.span) // 2 + layout.jitter + step - 0.5 for side in (height, width))
    reach = layout.patch + 2 * layout.jitter
    for name, (down, right) in (("", (0, 0)), *((str(place), offset) for place, offset in enumerate(OFFSETS))):
        x, y = left + step * right, top + step * down
        corner = (x - layout.jitter, y - layout.jitter)
        if layout.jitter:
            axes.add_patch(Rectangle(corner, reach, reach, fill=False, **JITTER))
        axes.add_patch(Rectangle((x, y), layout.patch, layout.patch, fill=False, **(NEIGHBOR if name else CENTER)))
        middle = (x + layout.patch / 2, y + layout.patch / 2)
        axes.text(*middle, name, color="white", ha="center", va="center", path_effects=outlined())


CENTER: dict[str, Any] = {"color": ORANGE, "linewidth": 3.0}
NEIGHBOR: dict[str, Any] = {"color": SKY, "linewidth": 1.5}
JITTER: dict[str, Any] = {"color": "#999999", "linewidth": 1.0, "linestyle": ":"}


def _legend(figure: Figure, layout: PatchLayout) -> None:
    from matplotlib.lines import Line2D

    patch, gap, jitter = layout
    handles = [
        Line2D([], [], label=f"center, {patch}x{patch} pixels", **CENTER),
        Line2D([], [], label=f"neighbors 0 to 7, {_pixels(gap)} apart", **NEIGHBOR),
    ]
    if jitter:
        handles.append(Line2D([], [], label=f"jitter of at most {_pixels(jitter)}", **JITTER))
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize="small", frameon=False)


def _pixels(count: int) -> str:
    return f"{count} pixel{'' if count == 1 else 's'}"
