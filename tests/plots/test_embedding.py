from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from pretextkit.errors import DataError, OptionError, PretextkitError, ShapeError
from pretextkit.plots import embedding
from tests.helpers import normal


def drawn_features(*shape: int, seed: int = 0) -> Tensor:
    return normal(*shape, seed=seed).double()


def points_of(figure: Any) -> dict[str, Any]:
    """Read the points of each legend entry."""
    return {str(each.get_label()): np.asarray(each.get_offsets()) for each in figure.axes[0].collections}


def face(points: Any) -> Any:
    return points.get_facecolor()


def test_projection_matches_the_two_largest_singular_values() -> None:
    features = drawn_features(40, 6) * torch.tensor([1.0, 5.0, 0.2, 3.0, 1.0, 0.1]) + 7
    figure = embedding(features.float())
    found = torch.as_tensor(points_of(figure)["images"])
    u, s, _ = torch.linalg.svd(features.float().double() - features.float().double().mean(0), full_matrices=False)
    expected = u[:, :2] * s[:2]
    torch.testing.assert_close(found.abs(), expected.abs(), rtol=1e-4, atol=1e-4)
    assert found[:, 0].var() > found[:, 1].var()
    shares = 100 * s.square() / s.square().sum()
    axes = figure.axes[0]
    assert axes.get_xlabel() == f"principal component 1 ({shares[0]:.1f} % of variance)"
    assert axes.get_ylabel() == f"principal component 2 ({shares[1]:.1f} % of variance)"
    assert axes.get_aspect() == 1  # distances have the same scale on both axes


def test_components_are_unit_vectors_with_fixed_signs() -> None:
    features = drawn_features(50, 5, seed=1)
    found = torch.as_tensor(points_of(embedding(features))["images"])
    weights = torch.linalg.lstsq(features - features.mean(0), found).solution  # d 2
    torch.testing.assert_close(weights.T @ weights, torch.eye(2).double())
    assert all(column[column.abs().argmax()] > 0 for column in weights.T)
    turned = torch.as_tensor(points_of(embedding(-features))["images"])
    torch.testing.assert_close(turned, -found)  # the same directions for any signs from the solver


def test_two_columns_are_drawn_directly() -> None:
    points = drawn_features(9, 2)
    labels = torch.tensor([0, 0, 2, 2, 2, 0, 0, 2, 2])
    figure = embedding(points, labels, ["top", "bag", "shoe"], title="t-SNE")
    found = points_of(figure)
    assert list(found) == ["top", "shoe"]
    np.testing.assert_allclose(found["top"], points[labels == 0])
    np.testing.assert_allclose(found["shoe"], points[labels == 2])
    assert (figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()) == ("dimension 1", "dimension 2")
    assert figure.axes[0].get_title() == "t-SNE"
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["top", "shoe"]
    figure.savefig(io.BytesIO(), format="png")


@pytest.mark.parametrize("stretch", [(3.0, 30.0), (30.0, 3.0)])
def test_points_and_text_are_not_cropped(stretch: tuple[float, float]) -> None:
    points = drawn_features(30, 2).abs() * torch.tensor(stretch)
    figure = embedding(points, torch.arange(30) % 3, ["top", "bag", "shoe"])
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=80)
    (axes,) = figure.axes
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    assert left < points[:, 0].min() <= points[:, 0].max() < right
    assert bottom < points[:, 1].min() <= points[:, 1].max() < top
    pixels = np.asarray(Image.open(file).convert("L"))
    for edge in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]):
        assert (edge == 255).all()  # nothing is cut off


def test_unlabeled_images_are_gray() -> None:
    points = drawn_features(6, 2)
    figure = embedding(points, [-1, 1, -1, 0, 1, -1])
    found = points_of(figure)
    assert list(found) == ["unlabeled", "0", "1"]
    np.testing.assert_allclose(found["unlabeled"], points[[0, 2, 5]])
    ((red, green, blue, _),) = face(figure.axes[0].collections[0])
    assert red == green == blue
    alone = embedding(points)
    assert list(points_of(alone)) == ["images"]
    assert not alone.legends


def test_hundred_classes_have_distinct_styles() -> None:
    figure = embedding(drawn_features(100, 2), torch.arange(100))
    looks = {
        (*map(tuple, face(each)), np.asarray(each.get_paths()[0].vertices).tobytes())
        for each in figure.axes[0].collections
    }
    assert len(looks) == 100
    figure.savefig(io.BytesIO(), format="png")


def test_collapsed_features_with_gradient_can_be_drawn() -> None:
    features = torch.ones(5, 4, requires_grad=True)
    figure = embedding(features, range(5))
    assert figure.axes[0].get_xlabel() == "principal component 1 (0.0 % of variance)"
    figure.savefig(io.BytesIO(), format="png")
    assert (features == 1).all()


def test_global_random_state_is_not_changed() -> None:
    state = torch.get_rng_state()
    embedding(drawn_features(20, 8))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("features", "labels", "names", "error", "message"),
    [
        (
            torch.zeros(5, 1),
            None,
            [],
            ShapeError,
            "Expected features n d with n, d >= 2, but got shape (5, 1). Pass the features of one layer",
        ),
        (torch.zeros(5, 3, 2, 2), None, [], ShapeError, "but got shape (5, 3, 2, 2). Pass"),
        (torch.zeros(1, 3), None, [], ShapeError, "but got shape (1, 3). Pass"),
        (torch.full((5, 3), torch.nan), None, [], DataError, "Expected finite features, but got NaN or inf. Check"),
        (torch.rand(3, 3), [0, 1], [], ShapeError, "Expected as many labels as images, but got 2 labels for 3 images."),
        (torch.rand(2, 3), [0, 2], ["a"], OptionError, "class_names for labels up to 2, but got 1 names. Name every"),
    ],
)
def test_invalid_input_is_refused(
    features: Tensor, labels: Any, names: Any, error: type[PretextkitError], message: str
) -> None:
    with pytest.raises(error) as caught:
        embedding(features, labels, names)
    assert message in str(caught.value)
