from __future__ import annotations

import io
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pretextkit.errors import DataError, OptionError, PretextkitError, ShapeError
from pretextkit.plots import confusion_matrix
from tests.helpers import random_labels

NAMES = ["top", "bag", "shoe"]


def naive_percentages(labels: Tensor, predictions: Tensor, classes: int) -> list[list[float]]:
    """Compute the percentages of predictions for each true class with loops."""
    shares = []
    for true in range(classes):
        given = [p for t, p in zip(labels.tolist(), predictions.tolist(), strict=True) if t == true]
        shares.append([100 * given.count(other) / len(given) if given else 0.0 for other in range(classes)])
    return shares


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_confusion_matrix_matches_a_loop(classes: int) -> None:
    labels, predictions = random_labels(60, classes, 0), random_labels(60, classes, 1)
    labels[:5] = -1
    kept = labels >= 0
    expected = naive_percentages(labels[kept], predictions[kept], classes)
    axes, bar = confusion_matrix(labels, predictions, title="kNN").axes
    picture: Any = axes.images[0].get_array()
    np.testing.assert_allclose(picture, expected, rtol=1e-5)
    assert axes.images[0].get_clim() == (0, 100)
    assert axes.images[0].get_extent()[2] > axes.images[0].get_extent()[3]  # row 0 is above
    written = {text.get_position(): text.get_text() for text in axes.texts}
    assert written == {
        (column, row): f"{share:.1f}" for row, line in enumerate(expected) for column, share in enumerate(line) if share
    }
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted class", "true class (images)")
    assert (bar.get_ylabel(), axes.get_title()) == ("images of the true class in %", "kNN")


def test_rows_show_class_names_and_image_counts() -> None:
    axes = confusion_matrix(torch.tensor([0, 0, 0, 1]), torch.tensor([0, 0, 1, 1]), NAMES).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["top (3)", "bag (1)", "shoe (0)"]
    assert [label.get_text() for label in axes.get_xticklabels()] == NAMES
    assert [text.get_text() for text in axes.texts] == ["66.7", "33.3", "100.0"]
    plain = confusion_matrix([0, 2], [0, 2]).axes[0]
    assert [label.get_text() for label in plain.get_yticklabels()] == ["0 (1)", "1 (0)", "2 (1)"]


def test_numbers_contrast_with_their_background() -> None:
    axes = confusion_matrix(torch.tensor([0, 0, 0, 1]), torch.tensor([0, 0, 1, 1])).axes[0]
    assert [text.get_color() for text in axes.texts] == ["white", "black", "white"]


def test_many_classes_have_separate_names_and_no_numbers() -> None:
    labels = torch.arange(120)
    figure = confusion_matrix(labels, labels)
    axes = figure.axes[0]
    assert not axes.texts
    assert [label.get_text() for label in axes.get_xticklabels()][:3] == ["0", "3", "6"]
    figure.savefig(io.BytesIO(), format="png")
    boxes = [label.get_window_extent() for label in axes.get_yticklabels()]
    assert all(one.y0 >= other.y1 for one, other in pairwise(boxes))
    assert len(confusion_matrix(torch.arange(20), torch.arange(20)).axes[0].texts) == 20
    assert not confusion_matrix(torch.arange(21), torch.arange(21)).axes[0].texts


def test_numbers_fit_into_their_entries() -> None:
    labels = torch.arange(10)
    figure = confusion_matrix(labels, labels, [f"a long name {i}" for i in range(10)])
    figure.draw_without_rendering()
    axes = figure.axes[0]
    entry_width = axes.get_window_extent().width / 10
    assert all(text.get_window_extent().width < entry_width for text in axes.texts)


@pytest.mark.parametrize("letters", [3, 16, 40])
def test_names_of_the_axes_lie_within_the_figure(letters: int) -> None:
    labels = torch.arange(8)
    figure = confusion_matrix(labels, labels, [f"{i}" * letters for i in range(8)])
    figure.draw_without_rendering()
    axes = figure.axes[0]
    for label in (axes.xaxis.label, axes.yaxis.label):
        box = label.get_window_extent()
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert (box.x1, box.y1) <= (figure.bbox.width, figure.bbox.height)


@pytest.mark.parametrize(
    ("labels", "predictions", "names", "error", "message"),
    [
        ([0, 1], [0], [], ShapeError, "Expected as many labels as images, but got 1 labels for 2 images."),
        (
            [-1, -1],
            [0, 1],
            [],
            DataError,
            "Expected labeled images, each with a prediction, but got labels that are all -1. Pass targets",
        ),
        ([], [], [], DataError, "Expected labeled images, each with a prediction, but got no labels. Pass targets"),
        ([0, 1], [0, -1], [], DataError, "each with a prediction, but got a prediction of -1. Pass targets"),
        ([0, 0], [0, 0], [], DataError, "Expected at least 2 classes, but got class 0 only. Name the other classes"),
        ([0, 1], [3, 1], NAMES, OptionError, "Expected class_names for labels up to 3, but got 3 names. Name every"),
    ],
)
def test_invalid_input_is_refused(
    labels: Any, predictions: Any, names: Any, error: type[PretextkitError], message: str
) -> None:
    with pytest.raises(error) as caught:
        confusion_matrix(labels, predictions, names)
    assert message in str(caught.value)
