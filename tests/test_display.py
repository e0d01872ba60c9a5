"""Results and figures in notebooks and interactive sessions."""

from __future__ import annotations

import importlib
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

import pretextkit as pk
from pretextkit._display import Displayed
from pretextkit.errors import PretextkitError
from pretextkit.functional import (
    AnomalyScores,
    ComparisonRun,
    KNNResult,
    LayerScore,
    compare,
    freeze_and_finetune,
    knn_probe,
    linear_probe,
    pretrain,
)
from pretextkit.testing import TinyBackbone, toy_images
from pretextkit.training._progress import BarProgress, LineProgress, progress_for
from tests.helpers import generator

LABELS = torch.arange(24) % 2
BRIGHTNESS = (0.2 + 0.8 * LABELS)[:, None, None, None]
TRAIN = (toy_images(24, size=16, generator=generator(0)) * BRIGHTNESS, LABELS)
TEST = (toy_images(24, size=16, generator=generator(1)) * BRIGHTNESS, LABELS)
FAST: dict[str, Any] = {"device": "cpu", "progress": False}


def results() -> dict[str, Displayed]:
    torch.manual_seed(0)
    task = pk.tasks.Rotation(TinyBackbone())
    comparison = compare(["rotation"], TinyBackbone, TRAIN, TEST, epochs=1, batch_size=8, label_fractions=[], **FAST)
    finetuned = freeze_and_finetune(TinyBackbone(), "linear", TRAIN, TEST, steps=20, **FAST)
    return {
        "PretrainResult": pretrain(task, TRAIN[0], epochs=2, batch_size=8, **FAST),
        "ProbeResult": linear_probe(task.backbone, TRAIN, TEST),
        "KNNResult": knn_probe(task.backbone, TRAIN, TEST),
        "FinetuneResult": finetuned,
        "unscored FinetuneResult": freeze_and_finetune(TinyBackbone(), "linear", TRAIN, steps=2, **FAST),
        "ClassReport": finetuned.class_report,  # type: ignore[dict-item]
        "Comparison": comparison,
        "AnomalyScores": AnomalyScores(torch.rand(30), torch.rand(30, 4, 4)),
        "History": finetuned.history,
    }


@pytest.fixture(scope="module")
def shown() -> dict[str, Displayed]:
    return results()


def test_every_result_has_a_short_line_as_repr(shown: dict[str, Displayed]) -> None:
    for name, result in shown.items():
        text = repr(result)
        assert text.startswith(f"<{name.split()[-1]}: "), text
        assert "\n" not in text
        assert len(text) < 240, text


def test_every_result_has_a_table_with_equal_rows(shown: dict[str, Displayed]) -> None:
    for name, result in shown.items():
        header, *rows = result.display_table()
        assert header, name
        assert rows, name
        assert {len(row) for row in rows} == {len(header)}, name
        html = result._repr_html_()
        assert html.count("<tr>") == 1 + len(rows)
        assert all(cell in html for cell in rows[0] if cell.isalnum())


def test_table_of_history_has_at_most_ten_epochs() -> None:
    rows = tuple({"epoch": float(epoch), "loss": 1.0} for epoch in range(1, 31))
    assert [row[0] for row in pk.training.History(rows).table(10)[1:]] == [str(epoch) for epoch in range(21, 31)]


def test_names_are_escaped_in_html() -> None:
    score = LayerScore(accuracy=0.6, validation=0.6, penalty=0.1, feature_dim=4, log_loss=1.0)
    run = ComparisonRun("<b>", 0, 0.6, "s", 0.6, {"s": score}, 0.5, {}, 0, 0, 0.0, 0.0, None, {})
    assert "&lt;b&gt;" in pk.functional.Comparison((run,), {})._repr_html_()
    assert "<b>" not in pk.functional.Comparison((run,), {})._repr_html_()


def test_display_changes_no_equality_or_fields() -> None:
    one = AnomalyScores(torch.zeros(2))
    assert list(one.__dataclass_fields__) == ["scores", "maps", "files", "measure", "by"]
    assert KNNResult.__eq__ is not object.__eq__


def test_figures_show_themselves_as_png() -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    history = pk.training.History(({"epoch": 1.0, "loss": 1.4}, {"epoch": 2.0, "loss": 0.9}))
    assert pk.plots.training_curves(history)._repr_png_().startswith(b"\x89PNG")  # type: ignore[attr-defined]
    with pytest.raises(PretextkitError, match=r'Save it with figure\.savefig\("figure\.png"\)'):
        pk.plots.training_curves(history).show()


class Shell:
    def __init__(self, *config: str) -> None:
        self.config = dict.fromkeys(config)


@pytest.mark.parametrize(
    ("config", "widgets", "bar"), [(["IPKernelApp"], True, True), (["IPKernelApp"], False, False), ([], True, False)]
)
def test_bar_needs_a_kernel_and_widgets(
    monkeypatch: pytest.MonkeyPatch, config: list[str], widgets: bool, bar: bool
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setitem(__import__("sys").modules, "IPython", type("M", (), {"get_ipython": lambda: Shell(*config)}))
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: (widgets or None) if name == "ipywidgets" else find(name)
    )
    monkeypatch.setattr("pretextkit.training._progress.BarProgress", lambda *args: object.__new__(BarProgress))
    shown = progress_for(True, "title", 10, 0, 4)
    assert type(shown) is (BarProgress if bar else LineProgress)


CELLS = (
    """import torch, pretextkit as pk
torch.manual_seed(0)
images = torch.rand(16, 3, 32, 32)
task = pk.tasks.Rotation(pk.models.SmallCNN())""",
    """result = pk.functional.pretrain(task, images, epochs=2, batch_size=8, device="cpu")
result""",
    "pk.plots.training_curves(result.history)",
)


def test_notebook_shows_bar_table_and_figure(tmp_path: Path) -> None:
    for package in ("nbclient", "ipykernel", "ipywidgets", "matplotlib", "tqdm"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the notebook's own packages
        nbformat: Any = importlib.import_module("nbformat")
        client: Any = importlib.import_module("nbclient")
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
        client.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    train, figure = notebook.cells[1].outputs, notebook.cells[2].outputs
    shown = [output["data"] for output in train if "data" in output]
    assert any("application/vnd.jupyter.widget-view+json" in data for data in shown)  # the bar
    assert [output["text"] for output in train if output["output_type"] == "stream"] == []  # and no lines
    assert "<table>" in shown[-1]["text/html"]
    assert shown[-1]["text/plain"].startswith("<PretrainResult: 4 steps in ")
    assert "image/png" in figure[0]["data"]


def test_tables_of_images_show_in_a_notebook() -> None:
    images = toy_images(12, size=16, generator=generator(0))
    backbone = TinyBackbone()
    found = (
        pk.functional.nearest_neighbors(backbone, images, k=2),
        pk.functional.near_duplicates(backbone, torch.cat([images, images])),
        linear_probe(backbone, TRAIN).classifier.predict(images),
        pk.functional.extract_features(backbone, images, layers="all"),
    )
    for result in found:
        html = result._repr_html_()
        assert 1 < html.count("<tr>") <= 11
        assert len(repr(result)) < 240
    assert repr(found[0]) == "Neighbors(12 queries, 2 neighbors of 12 images)"
