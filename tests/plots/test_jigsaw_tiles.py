from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import Generator, Tensor

from pretextkit import Tiles
from pretextkit.errors import DataError, OptionError, ShapeError
from pretextkit.plots import jigsaw_tiles
from pretextkit.tasks import Jigsaw, distant_permutations
from pretextkit.testing import TinyBackbone
from tests.helpers import uniform


def shown(figure: Figure, place: int) -> Any:
    (image,) = figure.axes[place].images
    return np.asarray(image.get_array())


def puzzle(images: Tensor, orders: Tensor, chosen: list[int]) -> Tiles:
    """Cut images ``n c 12 12`` into 4x4 tiles with loops: position ``i`` shows tile ``orders[...][i]``."""
    places = []
    for place in range(9):
        tiles = []
        for image, number in zip(images, chosen, strict=True):
            row, column = divmod(int(orders[number, place]), 3)
            tiles.append(image[:, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4])
        places.append(torch.stack(tiles))
    return Tiles(tuple(places), torch.tensor(chosen))


def without_gaps(picture: Any) -> Any:
    kept = [place for place in range(14) if place % 5 != 4]
    return picture[kept][:, kept]


def test_solved_puzzle_is_the_image_with_tile_numbers() -> None:
    images, orders = uniform(3, 3, 12, 12), distant_permutations(5)
    chosen = [4, 1, 1]
    figure = jigsaw_tiles(puzzle(images, orders, chosen), orders, count=2, title="Noroozi")
    assert figure.get_suptitle() == "Noroozi"
    assert [axes.get_title() for axes in figure.axes] == ["order 4", "order 1", "", ""]
    assert [axes.get_ylabel() for axes in figure.axes] == ["shown", "", "solved", ""]
    for column in range(2):
        image = images[column].permute(1, 2, 0).numpy()
        np.testing.assert_array_equal(without_gaps(shown(figure, 2 + column)), image)
        picture = without_gaps(shown(figure, column))
        assert not np.array_equal(picture, image)
        for text in figure.axes[column].texts:
            x, y = (int(side + 0.5) // 5 for side in text.get_position())
            row, across = divmod(int(text.get_text()), 3)
            tile = picture[4 * y : 4 * y + 4, 4 * x : 4 * x + 4]
            np.testing.assert_array_equal(tile, image[4 * row : 4 * row + 4, 4 * across : 4 * across + 4])
        numbers = [text.get_text() for text in figure.axes[column].texts]
        assert numbers == [str(number) for number in orders[chosen[column]].tolist()]
        assert [text.get_text() for text in figure.axes[2 + column].texts] == list("012345678")
    figure.savefig(io.BytesIO(), format="png")


def test_batch_of_the_task_is_accepted_and_not_modified() -> None:
    task = Jigsaw(TinyBackbone(), orders=4)
    batch = task.views(uniform(7, 3, 32, 32), Generator().manual_seed(0))
    kept = [tile.clone() for tile in batch.tiles]
    figure = jigsaw_tiles(batch, task.orders)
    assert len(figure.axes) == 12  # six of the seven
    assert all(torch.equal(tile, before) for tile, before in zip(batch.tiles, kept, strict=True))


def test_numbers_lie_inside_their_tiles() -> None:
    orders = distant_permutations(2)
    figure = jigsaw_tiles(puzzle(uniform(1, 1, 12, 12), orders, [0]), orders)
    figure.draw_without_rendering()
    (axes, _) = figure.axes
    for text in axes.texts:
        x, y = text.get_position()
        box = text.get_window_extent().transformed(axes.transData.inverted())
        assert x - 0.3 <= box.x0 <= box.x1 <= x + 4.1
        assert y - 0.3 <= min(box.y0, box.y1) <= max(box.y0, box.y1) <= y + 4.1


def test_invalid_input_is_refused() -> None:
    orders = distant_permutations(3)
    batch = puzzle(uniform(2, 1, 12, 12), orders, [0, 2])
    with pytest.raises(OptionError, match=r"Expected count to be an integer >= 1, but got 0\. The default is 6\."):
        jigsaw_tiles(batch, orders, count=0)
    with pytest.raises(DataError) as wrong:
        jigsaw_tiles(batch, orders[:2])
    assert wrong.value.text == (
        "Expected permutations from 0 to 1, but got 2. Pass the orders of the task that made the batch."
    )
    with pytest.raises(DataError, match="but got -3"):
        jigsaw_tiles(batch._replace(permutation=torch.tensor([1, -3])), orders)
    with pytest.raises(DataError, match="but got an empty batch"):
        jigsaw_tiles(Tiles(tuple(tile[:0] for tile in batch.tiles), batch.permutation[:0]), orders)
    message = "Expected nine tiles and orders k 9, but got 8 tiles and orders of shape (3, 9). Pass a batch from"
    with pytest.raises(ShapeError) as few:
        jigsaw_tiles(batch._replace(tiles=batch.tiles[:8]), orders)
    assert str(few.value).startswith(message)
    with pytest.raises(ShapeError, match=r"9 tiles and orders of shape \(3, 4\)"):
        jigsaw_tiles(batch, orders[:, :4])
