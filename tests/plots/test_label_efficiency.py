from __future__ import annotations

import io
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from matplotlib.text import Text

from pretextkit.errors import DataError, OptionError
from pretextkit.plots import label_efficiency
from pretextkit.plots._label_efficiency import COLORS, MUTED, spread_apart

ROWS: dict[str, Any] = {"random init": {1000: [0.6, 0.64], 100: [0.4, 0.4]}, "rotation": {100: 0.5, 1000: 0.7}}


def test_lines_show_means_in_order_of_labels() -> None:
    (axes,) = label_efficiency(ROWS, title="sample").axes
    assert [line.get_label() for line in axes.lines] == ["random init", "rotation"]
    first, second = (np.asarray(line.get_xydata()).ravel().tolist() for line in axes.lines)
    assert first == pytest.approx([100, 40, 1000, 62])
    assert second == pytest.approx([100, 50, 1000, 70])
    assert axes.get_xscale() == "log"
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["100", "1,000"]
    assert (axes.get_xlabel(), axes.get_title()) == ("labels", "sample")
    assert axes.get_ylabel() == "accuracy in % (higher is better)\nmean ± standard deviation over seeds"


def test_band_is_one_deviation_to_either_side() -> None:
    (axes,) = label_efficiency(ROWS).axes
    (band,) = axes.collections
    corners = np.asarray(band.get_paths()[0].vertices)
    at_1000 = corners[corners[:, 0] == 1000][:, 1]
    deviation = 100 * 0.02 * 2**0.5  # of 0.6 and 0.64, with n - 1
    assert (at_1000.min(), at_1000.max()) == pytest.approx((62 - deviation, 62 + deviation))
    assert corners[corners[:, 0] == 100][:, 1] == pytest.approx(40)


def test_many_lines_have_distinct_styles() -> None:
    figure = label_efficiency({f"row {i}": {50: 0.05 * i} for i in range(20)})
    (axes,) = figure.axes
    assert axes.get_ylabel() == "accuracy in % (higher is better)"
    looks = {(line.get_marker(), str(line._dash_pattern)) for line in axes.lines}  # type: ignore[attr-defined]
    assert len(looks) == 20  # without color
    figure.savefig(io.BytesIO(), format="png")


def test_names_stand_apart_beside_the_ends_of_lines() -> None:
    figure = label_efficiency({**ROWS, "supervised": {100: 0.9, 1000: 0.7}}, chance=0.1)
    (axes,) = figure.axes
    names = ["rotation", "supervised", "random init", "chance 10 %"]
    assert [text.get_text() for text in axes.texts] == names
    assert [text.xy for text in axes.texts] == [(1000, 70), (1000, 70), (1000, pytest.approx(62)), (1.0, 10)]  # type: ignore[attr-defined]
    figure.savefig(io.BytesIO(), format="png")
    boxes = [Text.get_window_extent(text) for text in axes.texts]  # without the lines to their ends
    assert all(upper.y0 > lower.y1 for upper, lower in pairwise(boxes))
    assert max(box.x1 for box in boxes) <= figure.bbox.x1


def test_of_many_lines_the_best_three_have_colors() -> None:
    few: dict[str, Any] = {f"task {i}": {100: 0.1 * i, 1000: [0.1 * i, 0.1 * i + 0.01]} for i in range(1, 6)}
    (axes,) = label_efficiency({**few, "supervised": {100: 0.9}}).axes
    assert [line.get_color() for line in axes.lines] == [*COLORS, "black"]
    assert len(axes.collections) == 5
    (axes,) = label_efficiency({"last": {100: 0.0, 1000: [0.0, 0.01]}, **few, "supervised": {100: 0.9}}).axes
    assert [line.get_color() for line in axes.lines] == [MUTED, MUTED, MUTED, *COLORS[:3], "black"]
    assert len(axes.collections) == 3


def test_spread_apart_moves_as_little_as_possible() -> None:
    assert spread_apart([9.0, 5.0, 1.0], 2.0) == [9, 5, 1]
    assert spread_apart([3.0, 3.0, 3.0], 1.0) == [4, 3, 2]
    assert spread_apart([4.0, 3.9, 0.0], 1.0) == pytest.approx([4.45, 3.45, 0])


def test_baselines_have_open_markers_and_chance_a_line() -> None:
    (axes,) = label_efficiency(ROWS, chance=0.1).axes
    random, rotation, chance = axes.lines
    assert (random.get_markerfacecolor(), random.get_linestyle()) == ("white", ":")
    assert rotation.get_markerfacecolor() == rotation.get_color() != random.get_color()
    assert np.asarray(chance.get_ydata()) == pytest.approx([10, 10])
    assert chance.get_linestyle() == "--"
    with pytest.raises(OptionError, match=r"Expected chance to be a number in \[0, 1\], but got 10\."):
        label_efficiency(ROWS, chance=10)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({}, "Expected accuracies by number of labels for every row, but got none for 'any'. Pass a mapping"),
        ({"a": {}}, "Expected accuracies by number of labels for every row, but got none for 'a'. Pass a mapping"),
        ({"a": {0: 0.5}}, "Expected numbers of labels >= 1, but got 0. Pass numbers of labels, not fractions."),
        ({"a": {10: 50.0}}, "Expected accuracies of 'a' in [0, 1], but got 50.0. Pass fractions, not percentages."),
    ],
)
def test_invalid_rows_are_refused(rows: Any, message: str) -> None:
    with pytest.raises(DataError) as error:
        label_efficiency(rows)
    assert str(error.value).startswith(message)
