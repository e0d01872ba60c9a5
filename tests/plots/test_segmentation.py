from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from pretextkit.errors import OptionError, ShapeError
from pretextkit.plots import segmentation

NAMES = ["sky", "road", "car"]


def example() -> tuple[torch.Tensor, torch.Tensor]:
    images = torch.randint(256, (3, 3, 6, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    truth = torch.arange(8).expand(3, 6, 8) % 3
    return images, truth


def test_masks_are_drawn_in_class_colors() -> None:
    images, truth = example()
    truth = truth.clone()
    truth[0, 0] = 255
    figure = segmentation(images, truth, {"one": truth * 0, "other": (truth + 1) % 3}, NAMES, count=2, title="Masks")
    assert [axes.get_title() for axes in figure.axes] == ["image", "truth", "one", "other", "", "", "", ""]
    pictures: list[Any] = [axes.get_images()[0].get_array() for axes in figure.axes]
    assert np.allclose(pictures[0], images[0].permute(1, 2, 0) / 255)
    assert np.allclose(pictures[1][0], 1.0)  # ignored
    colors = [pictures[1][1, column] for column in range(3)]
    assert len({tuple(color) for color in colors}) == 3
    assert np.allclose(pictures[2][1:], colors[0])
    assert np.allclose(pictures[3][1], [colors[(column + 1) % 3] for column in range(8)])
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [*NAMES, "ignored"]
    assert np.allclose(legend.get_patches()[1].get_facecolor()[:3], colors[1])


def test_more_than_six_columns_continue_below() -> None:
    images, truth = example()
    names = [f"task {i}" for i in range(5)]
    figure = segmentation(images, truth, dict.fromkeys(names, truth), NAMES, count=2)
    grids = [axes.get_subplotspec() for axes in figure.axes]
    places = [(grid.rowspan.start, grid.colspan.start) for grid in grids if grid]
    assert places == [(row + 2 * (column // 6), column % 6) for row in range(2) for column in range(7)]
    assert [axes.get_title() for axes in figure.axes[:7]] == ["image", "truth", *names]


def test_gray_images_and_many_classes_can_be_drawn() -> None:
    images, truth = torch.rand(1, 1, 6, 8), torch.arange(48).view(1, 6, 8)
    figure = segmentation(images, truth, {}, [str(label) for label in range(48)])
    picture: Any = figure.axes[1].get_images()[0].get_array()
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) == 48


def test_invalid_input_is_refused() -> None:
    images, truth = example()
    with pytest.raises(
        ShapeError, match=r"masks n h w of 'one' for images of \(3, 3, 6, 8\), but got shape \(2, 6, 8\)"
    ):
        segmentation(images, truth, {"one": truth[:2]}, NAMES)
    with pytest.raises(
        OptionError, match=r"class_names for the classes of 'truth', but got 2 names and class 2\. Name"
    ):
        segmentation(images, truth, {}, NAMES[:2])
    with pytest.raises(OptionError, match=r"count to be an integer >= 1, but got 0"):
        segmentation(images, truth, {}, NAMES, count=0)
