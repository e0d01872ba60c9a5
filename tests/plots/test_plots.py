"""Tests of the plots of views, comparisons and training curves, and of their dependencies."""

from __future__ import annotations

import io
import subprocess
import sys
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from PIL import Image
from torch import Generator, Tensor

import pretextkit as pk
from pretextkit.errors import DataError, OptionError, PretextkitError
from pretextkit.plots import comparison, training_curves, views
from pretextkit.plots._figures import GRAY
from pretextkit.plots._metrics import BASELINES, better_direction
from pretextkit.plots._views import POSITIONS
from pretextkit.tasks._jigsaw_context import OFFSETS
from pretextkit.testing import TinyBackbone, TinyTokenBackbone, toy_images
from pretextkit.training import History


def shown(figure: Figure, place: int) -> Any:
    """Read the pixels of axes number ``place`` of a figure."""
    (image,) = figure.axes[place].images
    return np.asarray(image.get_array())


def drawn(figure: Figure) -> Image.Image:
    """Render a figure; the test is that drawing succeeds."""
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return Image.open(file).convert("RGB")


@pytest.fixture
def images() -> Tensor:
    return toy_images(10, size=32, generator=Generator().manual_seed(0))


def test_rotations_have_one_row_per_angle(images: Tensor) -> None:
    batch = pk.tasks.Rotation(TinyBackbone(), augmentation=None).views(images, Generator())
    figure = views(batch, count=3, label_names=("0°", "90°", "180°", "270°"))
    assert [axes.get_ylabel() for axes in figure.axes] == ["0°", "", "", "90°", "", "", "180°", "", "", "270°", "", ""]
    for place in range(12):
        turns, number = divmod(place, 3)
        expected = images[number].rot90(turns, (1, 2)).permute(1, 2, 0).numpy()
        np.testing.assert_allclose(shown(figure, place), expected)
    drawn(figure)


def test_labels_without_names_show_their_numbers() -> None:
    batch = pk.Labeled(0.5 * torch.rand(4, 1, 8, 8), torch.tensor([5, 2, 5, 5]))
    figure = views(batch)
    assert [axes.get_ylabel() for axes in figure.axes] == ["label 2", "label 5", "", ""]
    np.testing.assert_array_equal(shown(figure, 0), batch.images[1, 0].numpy())  # gray: h w
    assert {axes.images[0].get_clim() for axes in figure.axes} == {(0, 1)}  # dark images stay dark
    drawn(figure)


def test_two_views_are_drawn_below_each_other(images: Tensor) -> None:
    batch = pk.tasks.SimCLR(TinyBackbone()).views(images, Generator().manual_seed(0))
    figure = views(batch)
    assert len(figure.axes) == 16  # eight of the ten
    assert [figure.axes[place].get_ylabel() for place in (0, 8)] == ["view a", "view b"]
    np.testing.assert_allclose(shown(figure, 3), batch.a[3].permute(1, 2, 0).numpy())
    np.testing.assert_allclose(shown(figure, 11), batch.b[3].permute(1, 2, 0).numpy())
    above, below = (figure.axes[place].get_position() for place in (3, 11))
    assert above.x0 == below.x0
    assert above.y0 > below.y0
    drawn(figure)


@pytest.mark.parametrize("place", range(8))
def test_neighbor_is_drawn_at_its_position(place: int) -> None:
    center, neighbor = torch.full((1, 3, 4, 4), 0.5), torch.zeros(1, 3, 4, 4)
    figure = views(pk.PatchPair(center, neighbor, torch.tensor([place])))
    (axes,) = figure.axes
    assert (axes.get_title(), axes.get_ylabel()) == (POSITIONS[place], "pair")
    down, right = OFFSETS[place]
    words = {-1: "above", 1: "below", 0: ""}[down], {-1: "left", 1: "right", 0: ""}[right]
    assert axes.get_title() == " ".join(word for word in words if word)
    picture = shown(figure, 0)
    assert picture.shape == (14, 14, 3)
    dark = picture[..., 0] == 0
    rows, columns = np.nonzero(dark)
    assert (rows.min(), columns.min(), dark.sum()) == (5 + 5 * down, 5 + 5 * right, 16)
    assert (picture[5:9, 5:9] == 0.5).all()
    assert (picture == 1).sum() == 3 * (14 * 14 - 32)


def test_tiles_are_drawn_in_shuffled_order() -> None:
    tiles = tuple(torch.full((2, 1, 3, 3), place / 10) for place in range(9))
    figure = views(pk.Tiles(tiles, torch.tensor([5, 0])))
    assert [axes.get_title() for axes in figure.axes] == ["order 5", "order 0"]
    assert figure.axes[0].get_ylabel() == "tiles"
    picture = shown(figure, 1)
    assert picture.shape == (11, 11)
    for place in range(9):
        row, column = 4 * (place // 3), 4 * (place % 3)
        assert picture[row : row + 3, column : column + 3] == pytest.approx(place / 10)
    assert (picture[3::4] == 1).all()
    assert (picture[:, 3::4] == 1).all()
    drawn(figure)


def test_patches_outside_unit_range_are_rescaled(images: Tensor) -> None:
    batch = pk.tasks.JigsawContext(TinyBackbone(), pairs=1).views(images, Generator().manual_seed(0))
    batch = batch._replace(center=4 * batch.center - 2)
    figure = views(batch, count=4)
    assert [axes.get_title() for axes in figure.axes] == [POSITIONS[place] for place in batch.position[:4].tolist()]
    patch = shown(figure, 0)[9:17, 9:17]
    assert (patch.min(), patch.max()) == (0, 1)
    drawn(figure)


def test_other_batches_have_one_row_per_field(images: Tensor) -> None:
    mask = torch.zeros(10, 1, 32, 32, dtype=torch.bool)
    mask[:, :, 8:24, 8:24] = True
    figure = views(pk.Masked(images * ~mask, mask, images), count=2)
    assert [axes.get_ylabel() for axes in figure.axes] == ["visible", "", "mask", "", "target", ""]
    np.testing.assert_array_equal(shown(figure, 3), mask[1, 0].float().numpy())
    drawn(figure)


def test_views_accept_gradients_and_do_not_modify(images: Tensor) -> None:
    batch = pk.TwoViews(images.clone().requires_grad_(), images * 3 - 1)
    kept = [view.detach().clone() for view in batch]
    drawn(views(batch))
    assert all(torch.equal(view, before) for view, before in zip(batch, kept, strict=True))


class Words(NamedTuple):
    said: str


@pytest.mark.parametrize("batch", [torch.rand(2, 3, 8, 8), Words("hello"), pk.TaskOutput(torch.tensor(1.0), {})])
def test_views_refuse_other_objects(batch: Any) -> None:
    message = f"Expected a named tuple with images b c h w, but got {type(batch).__name__}. "
    with pytest.raises(DataError) as error:
        views(batch)
    assert error.value.text == message + "Pass the result of task.views(images, generator)."


def test_views_refuse_invalid_options() -> None:
    batch = pk.Labeled(torch.rand(2, 3, 8, 8), torch.tensor([0, 2]))
    with pytest.raises(OptionError, match=r"Expected count to be an integer >= 1, but got 0\. The default is 8\."):
        views(batch, count=0)
    with pytest.raises(OptionError, match=r"label_names for labels up to 2, but got 2 names\. Name every label\."):
        views(batch, label_names=("a", "b"))


def test_bars_show_mean_accuracies() -> None:
    rows: dict[str, float | list[float]] = {"random init": [0.6, 0.62, 0.64], "rotation": 0.8, "all labels": [1.0, 1.0]}
    figure = comparison(rows, title="Linear probe")
    (axes,) = figure.axes
    bars: Any = axes.patches
    assert [bar.get_width() for bar in bars] == pytest.approx([100, 80, 62])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["all labels", "rotation", "random init"]
    tops = [bar.get_y() for bar in bars]
    assert axes.yaxis_inverted()
    assert tops == sorted(tops)
    assert [text.get_text() for text in axes.texts] == ["100.0 ± 0.0", "80.0", "62.0 ± 2.0"]
    assert axes.get_title() == "Linear probe"
    assert axes.get_xlabel() == "accuracy in % (higher is better)\nmean ± standard deviation over seeds"
    assert axes.get_xlim() == (0, 100)
    (errors,) = [each for each in axes.collections if isinstance(each, LineCollection)]
    last = errors.get_segments()[-1]
    assert last[:, 0].tolist() == pytest.approx([60, 64])
    drawn(figure)
    assert axes.bbox.x1 < max(text.get_window_extent().x1 for text in axes.texts) <= figure.bbox.x1


def test_single_accuracies_have_no_error_bar() -> None:
    figure = comparison({"a": 0.5, "b": [0.25]})
    (axes,) = figure.axes
    assert not axes.collections
    assert axes.get_xlabel() == "accuracy in % (higher is better)"
    assert [text.get_text() for text in axes.texts] == ["50.0", "25.0"]


def test_numbers_beside_full_bars_are_not_cropped() -> None:
    figure = comparison({"a": [0.9, 1.0], "b": 1.0})
    figure.draw_without_rendering()
    for text in figure.axes[0].texts:
        assert text.get_window_extent().x1 <= figure.bbox.x1


def test_baselines_differ_by_hatching_and_are_explained() -> None:
    rows = {"random init": 0.5, "rotation": 0.6, "mine": 0.4}
    figure = comparison(rows, baselines=["random init", "mine"])
    assert [bar.get_hatch() for bar in figure.axes[0].patches] == [None, "////", "////"]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["baseline, no pretext task"]
    assert not comparison(rows, baselines=[]).legends
    drawn(figure)


def test_baselines_are_known_by_their_name_before_a_comma() -> None:
    rows = {"rotation, tuned": 0.7, "random init, tuned": 0.6, "random initialization": 0.5, "tuned, supervised": 0.4}
    bars = comparison(rows).axes[0].patches
    assert [bar.get_hatch() for bar in bars] == [None, "////", None, None]


def test_chance_is_a_dashed_line_with_its_percentage() -> None:
    figure = comparison({"a": 0.5}, chance=0.125)
    (line,) = figure.axes[0].lines
    assert np.asarray(line.get_xdata()).tolist() == [12.5, 12.5]
    assert (line.get_linestyle(), line.get_label()) == ("--", "chance 12.5 %")
    with pytest.raises(OptionError, match=r"Expected chance to be a number in \[0, 1\], but got 12\.5\. The default"):
        comparison({"a": 0.5}, chance=12.5)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({}, "Expected at least one row to compare, but got none. Pass a mapping from names to accuracies."),
        ({"a": []}, "Expected accuracies of 'a' in [0, 1], but got none. Pass fractions, not percentages."),
        ({"a": 71.3}, "Expected accuracies of 'a' in [0, 1], but got 71.3. Pass fractions, not percentages."),
        (
            {"b": [0.5, float("nan")]},
            "Expected accuracies of 'b' in [0, 1], but got nan. Pass fractions, not percentages.",
        ),
    ],
)
def test_comparison_refuses_invalid_accuracies(rows: Any, message: str) -> None:
    with pytest.raises(DataError) as error:
        comparison(rows)
    assert error.value.text == message


def history(epochs: int, **settings: float) -> History:
    return History(
        tuple(
            {
                "epoch": float(epoch),
                "step": epoch * 10.0,
                "loss": 1 / epoch,
                "top1": 0.1 * epoch,
                "accuracy": 0.2 * epoch,
                "accuracy_0": 0.3,
                "uniformity": -2.0,
                "learning_rate": 0.001,
                "seconds": 1.0,
            }
            for epoch in range(1, epochs + 1)
        ),
        settings,
    )


def test_metrics_have_panels_shared_by_variants() -> None:
    figure = training_curves(history(3), title="rotation")
    assert [axes.get_ylabel() for axes in figure.axes] == [
        "loss (lower is better)",
        "top1 (higher is better)",
        "accuracy (higher is better)",
        "uniformity (lower is better)",
    ]
    assert {axes.get_xlabel() for axes in figure.axes} == {"epoch"}
    assert figure.get_suptitle() == "rotation"
    loss, _, accuracy, _ = figure.axes
    assert loss.lines[0].get_xydata().tolist() == [[1, 1], [2, 1 / 2], [3, 1 / 3]]  # type: ignore[union-attr]
    assert [line.get_label() for line in accuracy.lines] == ["accuracy", "accuracy_0"]
    assert np.asarray(accuracy.lines[0].get_ydata()).tolist() == pytest.approx([0.2, 0.4, 0.6])
    assert np.asarray(accuracy.lines[1].get_ydata()).tolist() == [0.3, 0.3, 0.3]
    assert accuracy.get_legend() is not None
    assert loss.get_legend() is None
    drawn(figure)
    for axes in figure.axes:
        assert all(tick == round(tick) for tick in axes.get_xticks())


def test_single_epoch_is_drawn_with_a_marker() -> None:
    figure = training_curves(history(1))
    assert figure.axes[0].lines[0].get_marker() == "o"
    drawn(figure)


def test_lines_of_a_panel_differ_without_color() -> None:
    accuracy, accuracy_0 = training_curves(history(50)).axes[2].lines
    assert accuracy.get_marker() != accuracy_0.get_marker()
    assert accuracy.get_linestyle() != accuracy_0.get_linestyle()
    assert accuracy.get_markevery() == 5  # fifty markers would hide the line


def test_accuracy_of_guesses_is_marked_in_its_panel_only() -> None:
    figure = training_curves(history(3, chance_accuracy=0.25))
    gray = [[line for line in axes.lines if line.get_color() == GRAY] for axes in figure.axes]
    assert [len(lines) for lines in gray] == [0, 0, 1, 0]
    (line,) = gray[2]
    assert (line.get_label(), np.asarray(line.get_ydata()).tolist()) == ("chance 0.25", [0.25, 0.25])


def test_baseline_joins_the_panel_of_its_metric() -> None:
    row = {"epoch": 1.0, "mse": 0.5, "mse_of_mean": 1.0, "psnr_hidden": 20.0, "psnr_mean": 15.0, "psnr_input": 9.0}
    figure = training_curves(History((row,)))
    assert [[line.get_label() for line in axes.lines] for axes in figure.axes] == [
        ["mse", "mse_of_mean"],
        ["psnr_hidden", "psnr_mean"],
        ["psnr_input"],  # its metric is missing
    ]
    assert [axes.lines[-1].get_linestyle() for axes in figure.axes] == ["--"] * 3


@pytest.mark.parametrize("name", [name for name in pk.pretext_tasks if name != "distillation"])
def test_metrics_of_built_in_tasks_have_a_direction(name: str, images: Tensor) -> None:
    backbone = TinyTokenBackbone() if name == "mae" else TinyBackbone()
    metrics = pk.pretext_tasks.create(name, backbone).step(images, Generator().manual_seed(0)).metrics
    undirected = {metric for metric in metrics if better_direction(metric) is None} - set(BASELINES)
    assert undirected <= {"teacher_entropy"}  # neither certain nor uniform is better


def test_empty_history_is_refused() -> None:
    with pytest.raises(DataError) as error:
        training_curves(History())
    assert error.value.text == "Expected a history of at least one epoch, but got an empty history. Train first."


def test_missing_matplotlib_error_names_the_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "pretextkit.plots._shown_figure", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(PretextkitError) as error:
        comparison({"a": 0.5})
    message = 'Plots need matplotlib, which is not installed. Run: pip install "pretextkit[plot]"'
    assert error.value.text == message


def test_pyplot_is_never_imported() -> None:
    # pyplot keeps every figure alive, chooses a backend and may open a window.
    code = (
        "import io, sys; from pretextkit.plots import comparison; assert 'matplotlib' not in sys.modules; "
        "comparison({'a': 0.5}).savefig(io.BytesIO()); assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
