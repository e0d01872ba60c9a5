"""Plot of predicted and true segmentation masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pretextkit._validation import check_int
from pretextkit.errors import OptionError, ShapeError
from pretextkit.plots._figures import PALETTE, drawn_channels, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["segmentation"]

COLUMNS = 6
"""Largest number of columns side by side."""

IGNORED = (1.0, 1.0, 1.0)
"""Color of ignored pixels: white."""


def segmentation(
    images: Tensor,
    truth: Tensor,
    predictions: Mapping[str, Tensor],
    class_names: Sequence[str],
    *,
    ignore_index: int = 255,
    count: int = 4,
    title: str = "",
    channels: Sequence[int] | None = None,
) -> Figure:
    """Draw images, true masks and predicted masks side by side, with a legend of the classes.

    Ignored pixels are white in the true masks; predictions are shown for all pixels. More than six columns continue
    below the first six, in the same order of images.

    Args:
        images: ``n c h w``, uint8 or float in [0, 1].
        truth: ``n h w``, true classes or ``ignore_index``.
        predictions: Mapping from names to predicted masks ``n h w``, drawn as one column each.
        class_names: Names of the classes 0, 1, ….
        ignore_index: Value of pixels without a class.
        count: Maximum number of images.
        title: Title of the figure.
        channels: One or three channels to draw, as gray or as red, green and blue; by default the first.

    Returns:
        A figure to save or display.

    Raises:
        ShapeError: The shapes of masks and images do not match.
        OptionError: ``count`` is below 1, a class has no name, or ``channels`` are no channels of the images.
        PretextkitError: matplotlib is not installed.

    Example:
        >>> images, truth = torch.rand(2, 3, 6, 8), torch.ones(2, 6, 8, dtype=torch.int64)
        >>> figure = segmentation(images, truth, {"random init": truth * 0}, ["sky", "road"])
        >>> [axes.get_title() for axes in figure.axes[:3]]
        ['image', 'truth', 'random init']
    """
    check_int("count", count, of=segmentation)
    for name, given in {"truth": truth, **predictions}.items():
        if given.shape != (len(images), *images.shape[2:]):
            raise ShapeError(
                f"masks n h w of {name!r} for images of {tuple(images.shape)}",
                got=f"shape {tuple(given.shape)}",
                fix="Pass the masks of these images.",
            )
        unnamed = given[(given != ignore_index) & ((given < 0) | (given >= len(class_names)))]
        if unnamed.numel():
            raise OptionError(
                f"class_names for the classes of {name!r}",
                got=f"{len(class_names)} names and class {int(unnamed.max())}",
                fix="Name every class, or set ignore_index.",
            )
    palette = _colors(len(class_names))
    shown = min(count, len(images))
    columns: dict[str, Tensor | None] = {"image": None, "truth": truth, **predictions}
    height, width = images.shape[2:]
    wide, blocks = min(len(columns), COLUMNS), -(-len(columns) // COLUMNS)
    side = 2.4 if blocks == 1 else 1.6  # inches

    lines = shown * blocks
    text = 0.3 * -(-len(class_names) // 6) + 0.5 * blocks + (0.3 if title else 0)
    figure = new_figure(side * wide, side * height / width * lines + text)
    for row in range(shown):
        for column, (name, masks) in enumerate(columns.items()):
            line = column // COLUMNS * shown + row
            axes = figure.add_subplot(lines, wide, line * wide + column % COLUMNS + 1)
            pixels = _as_rgb(images[row], channels) if masks is None else _colored(masks[row], palette, ignore_index)
            axes.imshow(pixels, interpolation="nearest")
            axes.set_xticks([])
            axes.set_yticks([])
            if row == 0:
                axes.set_title(name, fontsize="small")
    _legend(figure, palette, class_names, bool((truth[:shown] == ignore_index).any()))
    if title:
        figure.suptitle(title)
    return figure


def _legend(figure: Figure, palette: Tensor, class_names: Sequence[str], ignored: bool) -> None:
    from matplotlib.patches import Patch

    entries = [Patch(color=tuple(color), label=name) for color, name in zip(palette.tolist(), class_names, strict=True)]
    if ignored:
        entries.append(Patch(facecolor=IGNORED, edgecolor="black", label="ignored"))
    figure.legend(
        handles=entries, loc="outside lower center", ncols=min(6, len(entries)), fontsize="small", frameon=False
    )


def _colors(count: int) -> Tensor:
    """Choose ``count`` colors ``k 3``: from the palette of ten, matplotlib's twenty, or evenly spaced hues."""
    from matplotlib import colormaps
    from matplotlib.colors import to_rgb

    if count <= len(PALETTE):
        return torch.tensor([to_rgb(color) for color in PALETTE[:count]], dtype=torch.float32)
    if count <= 20:
        # dark colors first, then their light partners
        order = [*range(0, 20, 2), *range(1, 20, 2)]
        return torch.tensor([colormaps["tab20"](place)[:3] for place in order[:count]], dtype=torch.float32)
    return torch.tensor([colormaps["hsv"](place / count)[:3] for place in range(count)], dtype=torch.float32)


def _colored(mask: Tensor, palette: Tensor, ignore_index: int) -> Any:
    ignored = mask.cpu() == ignore_index
    colors = palette[torch.where(ignored, 0, mask.cpu().long())]
    colors[ignored] = torch.tensor(IGNORED)
    return colors.numpy()


def _as_rgb(image: Tensor, channels: Sequence[int] | None) -> Any:
    image = image[drawn_channels(len(image), channels)]
    pixels = image.cpu().float() / (1 if image.is_floating_point() else 255)
    return pixels.expand(3, -1, -1).permute(1, 2, 0).clamp(0, 1).numpy()
