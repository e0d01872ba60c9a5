from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from torch import Generator

from pretextkit.errors import OptionError, ShapeError
from pretextkit.plots import patch_layout
from pretextkit.plots._figures import ORANGE
from pretextkit.tasks import JigsawContext, PatchLayout
from pretextkit.testing import TinyBackbone
from tests.helpers import uniform


def boxes(axes: Any) -> dict[str, list[tuple[int, ...]]]:
    """Read top, left and side in pixels of each kind of square."""
    found: dict[str, list[tuple[int, ...]]] = {"center": [], "neighbors": [], "moved": []}
    for square in axes.patches:
        assert square.get_width() == square.get_height()
        kind = "center" if to_hex(square.get_edgecolor()) == ORANGE else "neighbors"
        place = (square.get_y() + 0.5, square.get_x() + 0.5, square.get_width())
        assert all(side == int(side) for side in place)  # edges lie between pixels
        found["moved" if square.get_linestyle() == ":" else kind].append(tuple(int(side) for side in place))
    return found


def test_squares_match_the_patches_of_the_task() -> None:
    # Each patch, located by its pixel values, lies inside the dotted square of its number.
    layout = PatchLayout(patch=5, gap=6, jitter=2)
    side = layout.span
    task = JigsawContext(TinyBackbone(), layout=layout, pairs=64, color_drop=0.0, augmentation=None)
    task.remove_shortcuts = lambda patches, generator: patches  # type: ignore[method-assign]
    image = torch.stack([torch.arange(side).repeat_interleave(side), torch.arange(side).repeat(side)]).view(
        1, 2, side, side
    )
    image = torch.cat([image, image[:, :1]], 1).float() / 255
    batch = task.views(image, Generator().manual_seed(0))
    found = boxes(patch_layout(image, layout).axes[0])
    (center,) = found["center"]
    for patches, places in (
        (batch.center, [center] * 64),
        (batch.neighbor, [found["neighbors"][p] for p in batch.position.tolist()]),
    ):
        corners = (patches[:, :2, 0, 0] * 255).round().int().tolist()
        moved = {(top - y, left - x) for (top, left), (y, x, _) in zip(corners, places, strict=True)}
        assert {abs(move) for pair in moved for move in pair} == {0, 1, 2}
        assert min(min(pair) for pair in moved) == -2
        assert max(max(pair) for pair in moved) == 2


def test_grid_is_centered_with_gaps() -> None:
    layout = PatchLayout(patch=8, gap=4, jitter=1)  # spans 34
    figure = patch_layout(uniform(2, 3, 40, 44), layout, title="Doersch")
    assert figure.get_suptitle() == "Doersch"
    assert len(figure.axes) == 2
    found = boxes(figure.axes[1])
    tops, lefts = [3 + 1 + 12 * row for row in range(3)], [5 + 1 + 12 * column for column in range(3)]
    squares = [(top, left, 8) for top in tops for left in lefts]
    assert found["center"] == [squares.pop(4)]
    assert found["neighbors"] == squares
    assert sorted(found["moved"]) == sorted((top - 1, left - 1, 10) for top in tops for left in lefts)
    numbers = {text.get_text(): text.get_position() for text in figure.axes[1].texts if text.get_text()}
    assert numbers == {str(place): (left + 3.5, top + 3.5) for place, (top, left, _) in enumerate(squares)}
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "center, 8x8 pixels",
        "neighbors 0 to 7, 4 pixels apart",
        "jitter of at most 1 pixel",
    ]
    figure.savefig(io.BytesIO(), format="png")


def test_images_are_unscaled_and_layout_is_fitted() -> None:
    images = (uniform(5, 1, 28, 28) * 100).byte()  # dark ones stay dark
    figure = patch_layout(images)
    assert len(figure.axes) == 4
    for axes, image in zip(figure.axes, images, strict=False):
        picture: Any = axes.images[0].get_array()
        np.testing.assert_allclose(picture, image[0] / 255)
        assert axes.get_xlim() == (-0.5, 27.5)
    assert boxes(figure.axes[0])["center"][0][2] == PatchLayout.fitting(28).patch


def test_layout_without_jitter_has_no_dotted_line() -> None:
    figure = patch_layout(uniform(1, 3, 30, 30), PatchLayout(8, 0, 0))
    assert not boxes(figure.axes[0])["moved"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "center, 8x8 pixels",
        "neighbors 0 to 7, 0 pixels apart",
    ]


def test_invalid_input_is_refused() -> None:
    with pytest.raises(OptionError, match=r"Expected count to be an integer >= 1, but got 0\. The default is 4\."):
        patch_layout(uniform(1, 3, 32, 32), count=0)
    with pytest.raises(
        ShapeError, match=r"Expected images n c h w, at least one, but got shape \(3, 32, 32\)\. Pass a"
    ):
        patch_layout(uniform(3, 32, 32))
    with pytest.raises(ShapeError, match=r"at least one, but got shape \(0, 3, 32, 32\)"):
        patch_layout(uniform(0, 3, 32, 32))
    with pytest.raises(ShapeError) as caught:
        patch_layout(uniform(1, 3, 40, 30), PatchLayout(8, 4, 1))
    assert caught.value.text == (
        "Expected images of at least 34 pixels a side, for PatchLayout(patch=8, gap=4, jitter=1), but got 40x30. "
        "Enlarge the images, or choose a smaller layout."
    )
    with pytest.raises(ShapeError, match="Expected images of at least 26 pixels, for a 3x3 grid of 6-pixel patches"):
        patch_layout(uniform(1, 3, 20, 20))
