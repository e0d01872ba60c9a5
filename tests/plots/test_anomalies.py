from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import Tensor

from pretextkit.errors import DataError, OptionError, ShapeError
from pretextkit.plots import reconstruction_panel, score_histogram
from tests.helpers import uniform


def shown(figure: Figure, place: int) -> Any:
    (image,) = figure.axes[place].images
    return np.asarray(image.get_array())


def labels(figure: Figure) -> list[str]:
    legend = figure.axes[0].get_legend()
    assert legend is not None
    return [text.get_text() for text in legend.get_texts()]


def test_panel_shows_highest_and_lowest_scores() -> None:
    images, scores = uniform(7, 3, 8, 10), torch.tensor([3.0, 6.0, 1.0, 5.0, 2.0, 4.0, 0.5])
    maps = uniform(7, 8, 10)
    figure = reconstruction_panel(images, images / 2, maps, scores, count=2, title="autoencoder")
    assert [axes.get_title() for axes in figure.axes[::3]] == ["highest\n6", "5", "lowest\n0.5", "1"]
    assert [axes.get_ylabel() for axes in figure.axes[:3]] == ["input", "reconstruction", "error"]
    for column, row in enumerate([1, 3, 6, 2]):
        picture, reconstruction, error = (shown(figure, 3 * column + line) for line in range(3))
        np.testing.assert_allclose(picture, images[row].permute(1, 2, 0))
        np.testing.assert_allclose(reconstruction, images[row].permute(1, 2, 0) / 2)
        np.testing.assert_allclose(error, maps[row])
    top = maps[[1, 3, 6, 2]].max().item()
    assert {axes.images[0].get_clim() for axes in figure.axes[2::3]} == {(0, top)}  # one scale for all
    assert figure.get_suptitle() == "autoencoder"
    first, last = figure.axes[0], figure.axes[9]
    figure.savefig(io.BytesIO())
    assert first.get_position().x0 < last.get_position().x0


def test_panel_of_few_byte_images_draws_each_once() -> None:
    images = (255 * uniform(3, 1, 8, 8)).byte()
    figure = reconstruction_panel(images, images / 255, torch.zeros(3, 8, 8), torch.arange(3.0), count=2)
    assert [axes.get_title() for axes in figure.axes[::3]] == ["highest\n2", "1", "lowest\n0"]
    np.testing.assert_allclose(shown(figure, 0), images[2, 0] / 255)
    figure.savefig(io.BytesIO())


def test_panel_refuses_mismatched_shapes() -> None:
    images = uniform(3, 1, 8, 8)
    with pytest.raises(ShapeError) as caught:
        reconstruction_panel(images, images, uniform(3, 8, 9), torch.zeros(3))
    assert caught.value.text == (
        "Expected images and reconstructions n c h w, maps n h w and scores n of the same images, but got shapes "
        "(3, 1, 8, 8), (3, 1, 8, 8), (3, 8, 9), (3,). Pass the result of reconstruction_anomaly_score with its images."
    )
    with pytest.raises(OptionError, match=r"Expected count to be an integer >= 1, but got 0\. The default is 6\."):
        reconstruction_panel(images, images, uniform(3, 8, 8), torch.zeros(3), count=0)


def test_histograms_are_normalized_separately() -> None:
    figure = score_histogram(uniform(200), 2 + uniform(50), threshold=1.5, title="rotation")
    (axes,) = figure.axes
    heights = np.array([bar.get_height() for bar in axes.patches])  # type: ignore[attr-defined]
    places = np.array([bar.get_x() for bar in axes.patches])  # type: ignore[attr-defined]
    assert heights[:60].sum() == pytest.approx(1)
    assert heights[60:].sum() == pytest.approx(1)
    assert places[:60][heights[:60] > 0].max() < 1.5 < places[60:][heights[60:] > 0].min()
    assert np.asarray(axes.lines[0].get_xdata()).tolist() == [1.5, 1.5]
    assert labels(figure) == ["normal (200)", "anomalous (50)", "threshold 1.5"]
    assert (axes.get_title(), axes.get_xlabel()) == ("rotation", "anomaly score (higher is more anomalous)")
    assert [axes.patches[place].get_hatch() for place in (0, 60)] == [None, "///"]  # differ without color
    figure.savefig(io.BytesIO())


def test_outlier_scores_do_not_stretch_the_axis() -> None:
    figure = score_histogram(uniform(500), torch.cat([uniform(500), torch.tensor([1e6])]))
    assert figure.axes[0].get_xlim()[1] < 2
    heights = [bar.get_height() for bar in figure.axes[0].patches]  # type: ignore[attr-defined]
    assert sum(heights) == pytest.approx(2)  # and is counted


def test_equal_scores_without_threshold_can_be_drawn() -> None:
    figure = score_histogram(torch.ones(3), torch.ones(2))
    assert labels(figure) == ["normal (3)", "anomalous (2)"]
    figure.savefig(io.BytesIO())


@pytest.mark.parametrize(
    ("anomalous", "got"),
    [(torch.zeros(0), "2 and 0 scores, of which 0"), (torch.tensor([math.nan]), "2 and 1 scores, of which 1")],
)
def test_missing_and_nonfinite_scores_are_refused(anomalous: Tensor, got: str) -> None:
    with pytest.raises(DataError) as caught:
        score_histogram(torch.ones(2), anomalous)
    assert caught.value.text == (
        f"Expected finite scores of normal and of anomalous images, but got {got} are NaN or infinite. "
        "Pass AnomalyScores.scores of both kinds of images."
    )
