from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest

from pretextkit.errors import DataError, OptionError
from pretextkit.plots import label_efficiency

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


def test_legend_lists_lines_as_they_end() -> None:
    figure = label_efficiency({**ROWS, "supervised": {100: 0.9, 1000: 0.65}}, chance=0.1)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["rotation", "supervised", "random init", "chance 10 %"]


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
