"""One HTML file that holds everything it shows."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch

import pretextkit as pk
from pretextkit import report
from pretextkit.errors import DataError, ShapeError
from pretextkit.functional import (
    AnomalyScores,
    compare,
    freeze_and_finetune,
    knn_probe,
    linear_probe,
    pretrain,
)
from pretextkit.report._pictures import worst_errors
from pretextkit.testing import TinyBackbone, toy_images

IMAGES = toy_images(48, size=16, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(48) % 3
TRAIN, TEST = (IMAGES[:36], LABELS[:36]), (IMAGES[36:], LABELS[36:])
QUIET: dict[str, Any] = {"device": "cpu", "progress": False}


class Page(HTMLParser):
    """Checks that tags are closed in order, and collects what the page refers to."""

    EMPTY = ("meta", "link", "img", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.headings: list[str] = []
        self.pictures: list[dict[str, str | None]] = []
        self.references: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.references += [value or "" for name, value in attrs if name in ("src", "href")]
        self.anchors |= {value for name, value in attrs if name == "id" and value}
        if tag == "img":
            self.pictures.append(values)
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)


def written(result: Any, folder: Path, **options: Any) -> tuple[str, Page]:
    text = report.write(result, folder / "new" / "report.html", **options).read_text("utf-8")
    return text, Page(text)


def check_alone(text: str, page: Page) -> None:
    """Check that the page loads nothing, and that its links lead somewhere."""
    for reference in page.references:
        assert reference.startswith("data:") or reference.removeprefix("#") in page.anchors, reference
    assert not re.search(r"<script|https?://|url\(|@import", text)
    for picture in page.pictures:
        assert picture["alt"]
        assert base64.b64decode(str(picture["src"]).split(",")[1]).startswith(b"\x89PNG")


def test_training_report_has_curves_views_and_settings(tmp_path: Path) -> None:
    task = pk.tasks.Rotation(TinyBackbone())
    result = pretrain(task, IMAGES, epochs=2, batch_size=16, checkpoint=tmp_path / "run", **QUIET)
    text, page = written(result, tmp_path, images=IMAGES, task=task)
    assert page.headings == ["Result", "Settings", "Training", "Views", "How to repeat"]
    check_alone(text, page)
    assert len(page.pictures) == 2
    assert "<td>batch size</td><td>16</td>" in text
    assert f"pretextkit {pk.__version__}, torch {torch.__version__}" in text
    from_folder, page = written(tmp_path / "run", tmp_path)
    assert page.headings == ["Settings", "Training", "How to repeat"]
    assert f"<td>{result.history.last['loss']:.4g}</td>" in from_folder


def test_probe_report_shows_errors_of_the_scored_images(tmp_path: Path) -> None:
    result = linear_probe(TinyBackbone(), TRAIN, TEST)
    text, page = written(result, tmp_path, images=TEST[0], title="a < b")
    expected = ["Result", "Classes", "Worst errors", "Features", "How to repeat"]
    assert page.headings == [each for each in expected if each != "Worst errors" or result.accuracy < 1]
    check_alone(text, page)
    assert "<h1>a &lt; b</h1>" in text
    with pytest.raises(ShapeError, match=r"the 12 images that the result scored, but got 36\. Pass images=test_images"):
        report.write(result, tmp_path / "other.html", images=TRAIN[0])
    assert not (tmp_path / "other.html").exists()


def test_worst_errors_are_wrong_and_sorted() -> None:
    probabilities = torch.rand(200, 4, generator=torch.Generator().manual_seed(0)).softmax(1)
    targets = torch.arange(200) % 4
    rows, predicted = worst_errors(probabilities, targets)
    naive = sorted(
        (-float(p.max()), i, int(p.argmax())) for i, p in enumerate(probabilities) if int(p.argmax()) != i % 4
    )[:12]
    assert rows.tolist() == [i for _, i, _ in naive]
    assert predicted.tolist() == [label for _, _, label in naive]


def test_several_results_are_one_page(tmp_path: Path) -> None:
    backbone = TinyBackbone()
    tuned = freeze_and_finetune(backbone, "linear", TRAIN, TEST, steps=2, **QUIET)
    text, page = written({"Neighbors": knn_probe(backbone, TRAIN, TEST), "Tuned": tuned}, tmp_path)
    assert page.headings[:3] == ["Neighbors: Result", "Neighbors: Classes", "Tuned: Result"]
    check_alone(text, page)


def test_comparison_report_is_equal_from_its_folder(tmp_path: Path) -> None:
    options: dict[str, Any] = {"epochs": 1, "batch_size": 12, "label_fractions": (0.5, 1.0), "finetune_steps": 1}
    result = compare([], TinyBackbone, TRAIN, TEST, save=tmp_path / "saved", **options, **QUIET)
    text, page = written(result, tmp_path, title="Comparison")
    check_alone(text, page)
    assert page.headings == ["Result", "Settings of each run", "Settings", "How to repeat"]
    assert text == written(tmp_path / "saved", tmp_path, title="Comparison")[0]


def test_anomaly_report_shows_highest_scores_first(tmp_path: Path) -> None:
    result = AnomalyScores(torch.linspace(0, 1, 48), files=tuple(f"{i}.png" for i in range(48)))
    text, page = written(result, tmp_path, images=IMAGES)
    check_alone(text, page)
    assert page.headings == ["Result", "Highest scores", "Images", "How to repeat"]
    assert text.index("47.png") < text.index("46.png")


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (3, "Expected a result of pretextkit, .* but got int. Pass the result of pretrain"),
        ({"a": "b"}, "Expected the folder of a training or a comparison, .* but got b, which is no folder. Pass the"),
    ],
)
def test_other_things_are_refused(result: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        report.write(result, tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []


def test_folder_without_a_result_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"which has neither\. Pass the folder given to pretrain\(checkpoint="):
        report.write(tmp_path, tmp_path / "report.html")
    (tmp_path / "history.csv").write_text("epoch,loss\n1,abc\n")
    with pytest.raises(DataError, match="Expected the history that a training wrote, but got ValueError"):
        report.write(tmp_path, tmp_path / "report.html")
