"""What a network puts into holes."""

from __future__ import annotations

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


def inpainting(batch: Masked, filled: Tensor, *, count: int = 6, title: str = "") -> Figure:
    """Draw images with their hidden pixels, with these filled, and as they were.

    Only hidden pixels of ``filled`` are shown, the others are those of the image: what a decoder makes of pixels that
    it sees says little. A line runs around the hidden ones. Above stands how near to the truth they come (peak
    signal-to-noise ratio, in decibels): filled, and where the batch has left them, which for a context encoder is the
    mean color.

    Args:
        batch: What ``views`` of a context encoder gives, or of a denoising task.
        filled: ``b c h w``, in [0, 1]: what the model makes of ``batch.visible``, everywhere or in the hole only.
        count: Images, at most.
        title: Written above.

    Returns:
        A figure to save or display.

    Raises:
        OptionError: ``count`` is below 1.
        ShapeError: ``filled`` or a field of the batch is not of the same images.
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
            fix="Pass what views gives, and what the model makes of its visible images.",
        )
    pasted = torch.where(batch.mask, filled.to(batch.visible), batch.visible)
    columns = min(count, len(pasted))
    figure = new_figure(1.2 * columns + 0.9, 4.2 + (0.3 if title else 0))
    for column in range(columns):
        mask, target = batch.mask[column], batch.target[column]
        for line, (name, image) in enumerate((("hole", batch.visible), ("filled", pasted), ("original", batch.target))):
            axes = figure.add_subplot(3, columns, line * columns + column + 1)
            draw_image(axes, image[column])
            if line < 2:
                _outline(axes, mask[0])
                if mask.any():
                    found = float(psnr(weighted_mse(image[column][None], target[None], mask[None])))
                    axes.set_title(f"{'PSNR ' if column == 0 else ''}{found:.1f} dB", fontsize="small")
            if column == 0:
                axes.set_ylabel(name, rotation="horizontal", ha="right", va="center")
    if title:
        figure.suptitle(title)
    return figure


def _outline(axes: Axes, mask: Tensor) -> None:
    """Draw the edges between pixels where ``mask`` ``h w`` changes, the image's own edge included."""
    from matplotlib.collections import LineCollection

    inside = torch.nn.functional.pad(mask.cpu().int(), (1, 1, 1, 1))
    upright = (inside[1:-1].diff(dim=1)).nonzero().tolist()  # row, and the column whose left edge it is
    level = (inside[:, 1:-1].diff(dim=0)).nonzero().tolist()
    edges = [[(x - 0.5, y - 0.5), (x - 0.5, y + 0.5)] for y, x in upright]
    edges += [[(x - 0.5, y - 0.5), (x + 0.5, y - 0.5)] for y, x in level]
    axes.add_collection(LineCollection(edges, colors=ORANGE, linewidths=1, capstyle="projecting", clip_on=False))
