"""Plot of filled holes beside the originals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pretextkit._validation import check_int
from pretextkit.batches import Masked
from pretextkit.errors import ShapeError
from pretextkit.losses import psnr, weighted_mse
from pretextkit.plots._figures import ORANGE, draw_image, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["inpainting"]


def inpainting(
    batch: Masked, filled: Tensor, *, count: int = 6, title: str = "", channels: Sequence[int] | None = None
) -> Figure:
    """Draw images with holes, the filled images, and the originals.

    Only hidden pixels are taken from ``filled``; visible pixels come from the image. A line outlines the hidden pixels.
    Titles give the peak signal-to-noise ratio of the hidden pixels in decibels, after filling and before; a context
    encoder fills with the mean color before.

    Args:
        batch: Batch from ``views`` of a context encoder or of a denoising task.
        filled: ``b c h w`` in [0, 1], the reconstruction of ``batch.visible``, of all pixels or of the hole only.
        count: Maximum number of images.
        title: Title of the figure.
        channels: One or three channels to draw, as gray or as red, green and blue; by default the first.

    Returns:
        A figure to save or display.

    Raises:
        OptionError: ``count`` is below 1, or ``channels`` are no channels of the images.
        ShapeError: The shapes of ``filled`` and of the batch do not match.
        PretextkitError: matplotlib is not installed.

    Example:
        >>> images, mask = torch.rand(2, 3, 8, 8), torch.zeros(2, 1, 8, 8, dtype=torch.bool)
        >>> mask[:, :, 2:6, 2:6] = True
        >>> figure = inpainting(Masked(images * ~mask, mask, images), images + 0.1)
        >>> figure.axes[1].get_title()
        'PSNR 20.0 dB'
    """
    check_int("count", count, of=inpainting)
    size = (len(batch.target), 1, *batch.target.shape[2:])
    same = batch.visible.shape == filled.shape == batch.target.shape and batch.mask.shape == size
    if not same or batch.mask.dtype != torch.bool:
        shapes = ", ".join(str(tuple(each.shape)) for each in (*batch, filled))
        raise ShapeError(
            "visible, target and filled b c h w and a bool mask b 1 h w of the same images",
            got=f"visible, mask, target and filled of shapes {shapes}",
            fix="Pass a batch from views, and the reconstruction of its visible images.",
        )
    pasted = torch.where(batch.mask, filled.to(batch.visible), batch.visible)
    columns = min(count, len(pasted))
    figure = new_figure(1.2 * columns + 0.9, 4.2 + (0.3 if title else 0))
    for column in range(columns):
        mask, target = batch.mask[column], batch.target[column]
        for line, (name, image) in enumerate((("hole", batch.visible), ("filled", pasted), ("original", batch.target))):
            axes = figure.add_subplot(3, columns, line * columns + column + 1)
            draw_image(axes, image[column], channels)
            if line < 2:
                _outline(axes, mask[0])
                if mask.any():
                    decibels = float(psnr(weighted_mse(image[column][None], target[None], mask[None])))
                    axes.set_title(f"{'PSNR ' if column == 0 else ''}{decibels:.1f} dB", fontsize="small")
            if column == 0:
                axes.set_ylabel(name, rotation="horizontal", ha="right", va="center")
    if title:
        figure.suptitle(title)
    return figure


def _outline(axes: Axes, mask: Tensor) -> None:
    """Draw the pixel edges at which ``mask`` (``h w``) changes, including the edge of the image."""
    from matplotlib.collections import LineCollection

    inside = torch.nn.functional.pad(mask.cpu().int(), (1, 1, 1, 1))
    vertical = (inside[1:-1].diff(dim=1)).nonzero().tolist()  # row, and column to the right of the edge
    horizontal = (inside[:, 1:-1].diff(dim=0)).nonzero().tolist()
    edges = [[(x - 0.5, y - 0.5), (x - 0.5, y + 0.5)] for y, x in vertical]
    edges += [[(x - 0.5, y - 0.5), (x + 0.5, y - 0.5)] for y, x in horizontal]
    axes.add_collection(LineCollection(edges, colors=ORANGE, linewidths=1, capstyle="projecting", clip_on=False))
