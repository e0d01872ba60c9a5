"""Plot of jigsaw puzzles and their solutions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pretextkit._validation import check_int
from pretextkit.batches import Tiles
from pretextkit.errors import DataError, ShapeError
from pretextkit.plots._figures import draw_image, grid_of_tiles, new_figure, outlined

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["jigsaw_tiles"]


def jigsaw_tiles(
    batch: Tiles, orders: Tensor, *, count: int = 6, title: str = "", channels: Sequence[int] | None = None
) -> Figure:
    """Draw the nine shuffled tiles of images, and the same tiles in their original order.

    Numbers give the position of a tile in the image, from 0 (top left) to 8 (bottom right). If you cannot solve the
    puzzle, the tiles are too small or the images have too little content. Tiles outside [0, 1] are rescaled one by one.

    Args:
        batch: Batch from ``views`` of a jigsaw task.
        orders: ``k 9``, the tile at each position in each order, as in ``task.orders``.
        count: Maximum number of images.
        title: Title of the figure.
        channels: One or three channels to draw, as gray or as red, green and blue; by default the first.

    Returns:
        A figure to save or display.

    Raises:
        OptionError: ``count`` is below 1, or ``channels`` are no channels of the images.
        ShapeError: There are not nine tiles, or ``orders`` are not ``k 9``.
        DataError: ``orders`` lacks an order of the batch.
        PretextkitError: matplotlib is not installed.

    Example:
        >>> tiles = tuple(torch.rand(1, 3, 8, 8) for _ in range(9))
        >>> orders = torch.tensor([[8, 7, 6, 5, 4, 3, 2, 1, 0]])
        >>> figure = jigsaw_tiles(Tiles(tiles, torch.tensor([0])), orders)
        >>> "".join(text.get_text() for text in figure.axes[0].texts)
        '876543210'
    """
    check_int("count", count, of=jigsaw_tiles)
    if len(batch.tiles) != 9 or orders.ndim != 2 or orders.shape[1] != 9:
        raise ShapeError(
            "nine tiles and orders k 9",
            got=f"{len(batch.tiles)} tiles and orders of shape {tuple(orders.shape)}",
            fix="Pass a batch from task.views, and task.orders.",
        )
    chosen = batch.permutation[:count].tolist()
    if not chosen or min(chosen) < 0 or max(chosen) >= len(orders):
        raise DataError(
            f"permutations from 0 to {len(orders) - 1}",
            got=max(chosen, key=abs) if chosen else "an empty batch",
            fix="Pass the orders of the task that made the batch.",
        )
    shown = torch.stack([tile[:count].detach().cpu() for tile in batch.tiles])  # 9 n c p p
    positions = orders.cpu()[chosen]
    solved = torch.stack([shown[order.argsort(), image] for image, order in enumerate(positions)], 1)
    rows = (("shown", shown, positions), ("solved", solved, torch.arange(9).expand(len(chosen), 9)))

    figure = new_figure(1.6 * len(chosen) + 0.7, 3.6 + (0.3 if title else 0))
    for line, (name, tiles, numbers) in enumerate(rows):
        for column, image in enumerate(grid_of_tiles(list(tiles))):
            axes = figure.add_subplot(2, len(chosen), line * len(chosen) + column + 1)
            draw_image(axes, image, channels)
            step = tiles.shape[-1] + 1
            for place, number in enumerate(numbers[column].tolist()):
                x, y = place % 3 * step - 0.3, place // 3 * step - 0.3
                axes.text(x, y, str(number), color="white", fontsize=8, ha="left", va="top", path_effects=outlined())
            if line == 0:
                axes.set_title(f"order {chosen[column]}", fontsize="small")
            if column == 0:
                axes.set_ylabel(name, rotation="horizontal", ha="right", va="center")
    if title:
        figure.suptitle(title)
    return figure
