"""The figure of a selection: which images it shows, in which order, and where."""

from __future__ import annotations

from typing import Any

import numpy
import pytest
import torch

from pretextkit import plots
from pretextkit.errors import OptionError, ShapeError
from pretextkit.functional import select_to_label
from tests.helpers import normal, random_images

pytest.importorskip("matplotlib")
FEATURES, IMAGES = normal(30, 5), random_images(30, size=8)
CHOSEN = select_to_label(FEATURES, 12)


def shown(axes: Any) -> torch.Tensor:
    return torch.from_numpy(numpy.asarray(axes.images[0].get_array())).permute(2, 0, 1)


@pytest.mark.parametrize("images", [IMAGES, IMAGES[CHOSEN.indices]])
def test_grid_shows_the_chosen_images_in_order(images: torch.Tensor) -> None:
    figure = plots.selection(CHOSEN, images)
    assert [axes.get_title() for axes in figure.axes] == [str(place) for place in range(1, 13)]
    for axes, row in zip(figure.axes, CHOSEN.indices.tolist(), strict=True):
        torch.testing.assert_close(shown(axes), IMAGES[row])


def test_map_marks_the_chosen_images() -> None:
    figure = plots.selection(CHOSEN, IMAGES, FEATURES, count=3, title="photos")
    assert len(figure.axes) == 4
    assert figure.get_suptitle() == "photos"
    every, chosen = (numpy.asarray(points.get_offsets()) for points in figure.axes[3].collections)
    assert len(every) == 30
    numpy.testing.assert_allclose(chosen, every[CHOSEN.indices.numpy()])


def test_other_images_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"30 images n c h w, or the 12 chosen ones, but got shape \(29"):
        plots.selection(CHOSEN, IMAGES[:29])
    with pytest.raises(ShapeError, match="features 30 d of all images"):
        plots.selection(CHOSEN, IMAGES, FEATURES[:3])
    with pytest.raises(OptionError, match="count"):
        plots.selection(CHOSEN, IMAGES, count=0)
