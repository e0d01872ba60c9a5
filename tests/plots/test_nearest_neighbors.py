from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from torch import Tensor

from pretextkit.errors import OptionError, PretextkitError, ShapeError
from pretextkit.plots import nearest_neighbors
from pretextkit.plots._figures import ORANGE, SKY
from tests.helpers import uniform

SOLID = ("-", "solid")


def ranked(query: Tensor, database: Tensor) -> list[tuple[float, int]]:
    """Rank the rows of the database by cosine with loops, nearest first."""
    found = []
    for row, other in enumerate(database.tolist()):
        a = query.tolist()
        dot = sum(x * y for x, y in zip(a, other, strict=True))
        found.append((dot / math.hypot(*a) / math.hypot(*other), row))
    return sorted(found, reverse=True)


def example() -> dict[str, Any]:
    lengths = 10 * uniform(12, 1, seed=5)  # the cosine ignores lengths, other distances do not
    return {
        "query_images": uniform(3, 3, 8, 8),
        "database_images": (255 * uniform(12, 3, 6, 7, seed=1)).byte(),
        "query_features": uniform(3, 4, seed=2) - 0.5,
        "database_features": (uniform(12, 4, seed=3) - 0.5) * lengths,
    }


def test_neighbors_match_a_loop_nearest_first() -> None:
    given = example()
    figure = nearest_neighbors(**given, k=4, count=2, title="rotation")
    assert len(figure.axes) == 2 * 5
    assert figure.get_suptitle() == "rotation"
    assert not figure.legends
    for line in range(2):
        query, *others = figure.axes[5 * line : 5 * line + 5]
        picture: Any = query.images[0].get_array()
        np.testing.assert_allclose(picture, given["query_images"][line].permute(1, 2, 0))
        expected = ranked(given["query_features"][line], given["database_features"])[:4]
        for place, (axes, (cosine, row)) in enumerate(zip(others, expected, strict=True)):
            picture = axes.images[0].get_array()
            np.testing.assert_allclose(picture, given["database_images"][row].permute(1, 2, 0) / 255, rtol=1e-6)
            assert axes.get_title() == ("cosine " if line == place == 0 else "") + f"{cosine:.3f}"
    figure.savefig(io.BytesIO(), format="png")
    places = [axes.get_position() for axes in figure.axes]
    assert [place.x0 for place in places[:5]] == sorted(place.x0 for place in places[:5])
    assert places[0].y0 > places[5].y1  # rows do not lie over each other


def test_frames_show_whether_classes_match() -> None:
    given = example()
    queries, database = torch.tensor([1, 0, -1]), torch.arange(12) % 2
    database[ranked(given["query_features"][0], given["database_features"])[0][1]] = -1
    names = ["cat", "dog"]
    figure = nearest_neighbors(**given, query_labels=queries, database_labels=database, class_names=names, k=5)
    for line, label in enumerate(queries.tolist()):
        query, *others = figure.axes[6 * line : 6 * line + 6]
        assert query.get_xlabel() == ("" if label < 0 else names[label])
        nearest = ranked(given["query_features"][line], given["database_features"])
        for axes, (_, row) in zip(others, nearest, strict=False):
            other = int(database[row])
            sides = axes.spines.values()
            looks = {(to_hex(s.get_edgecolor()), s.get_linewidth() > 2, s.get_linestyle() in SOLID) for s in sides}
            assert axes.get_xlabel() == ("" if other < 0 else names[other])
            if label < 0 or other < 0:
                assert looks == {("#000000", False, True)}
            elif label == other:
                assert looks == {(SKY, True, True)}
            else:
                assert looks == {(ORANGE, True, False)}  # distinct without colors, too
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["same class", "another class"]
    figure.savefig(io.BytesIO(), format="png")


def test_small_database_is_shown_completely() -> None:
    given = {name: value[:2] for name, value in example().items()}
    given["query_features"] = given["query_features"].clone().requires_grad_()
    kept = {name: value.detach().clone() for name, value in given.items()}
    figure = nearest_neighbors(**given)
    assert len(figure.axes) == 2 * 3
    assert all(torch.equal(given[name], kept[name]) for name in kept)


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"k": 0}, OptionError, "Expected k to be an integer >= 1, but got 0. The default is 6."),
        ({"count": 0}, OptionError, "Expected count to be an integer >= 1, but got 0. The default is 6."),
        (
            {"query_features": torch.rand(2, 4)},
            ShapeError,
            "Expected features 3 d and 12 d of the images, but got shapes (2, 4) and (12, 4). Pass features",
        ),
        ({"query_features": torch.rand(3, 5)}, ShapeError, "but got shapes (3, 5) and (12, 4)."),
        ({"database_features": torch.rand(12, 4, 1)}, ShapeError, "but got shapes (3, 4) and (12, 4, 1)."),
        (
            {"query_labels": [0, 1, 0]},
            OptionError,
            "Expected labels of queries and of the database, or neither, but got one of the two. Pass query_labels and",
        ),
        ({"query_labels": [0, 1], "database_labels": [0] * 12}, ShapeError, "but got 2 labels for 3 images."),
        (
            {"query_labels": [0, 1, 0], "database_labels": [2] * 12, "class_names": ["a", "b"]},
            OptionError,
            "Expected class_names for labels up to 2, but got 2 names. Name every class.",
        ),
    ],
)
def test_invalid_input_is_refused(changed: Any, error: type[PretextkitError], message: str) -> None:
    with pytest.raises(error) as caught:
        nearest_neighbors(**(example() | changed))
    assert message in str(caught.value)
