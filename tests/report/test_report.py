"""One HTML file that holds everything it shows."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import pretextkit as pk
from pretextkit import plots, report
from pretextkit.cli import main
from pretextkit.errors import DataError, OptionError, ShapeError
from pretextkit.functional import (
    AnomalyScores,
    Comparison,
    compare,
    freeze_and_finetune,
    knn_probe,
    linear_probe,
    pretrain,
)
from pretextkit.report import _sections
from pretextkit.report._pictures import worst_errors
from pretextkit.testing import TinyBackbone, toy_images
from pretextkit.training import History

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
    assert page.headings == ["What was run", "Result", "Settings", "Training", "Views", "How to repeat"]
    check_alone(text, page)
    assert len(page.pictures) == 2
    assert "<td>batch size</td><td>16</td>" in text
    assert f"pretextkit {pk.__version__}, torch {torch.__version__}" in text
    from_folder, page = written(tmp_path / "run", tmp_path)
    assert page.headings == ["What was run", "Settings", "Training", "How to repeat"]
    assert f"<td>{result.history.last['loss']:.4g}</td>" in from_folder


def test_report_of_a_python_run_names_the_run(tmp_path: Path) -> None:
    task = pk.tasks.SimCLR(pk.models.SmallCNN(in_channels=3), temperature=0.3)
    result = pretrain(task, IMAGES, steps=2, batch_size=16, seed=5, checkpoint=tmp_path / "run", **QUIET)
    expected = {
        "task": "simclr",
        "task options": "temperature=0.3",
        "backbone": "small-cnn",
        "backbone options": "in_channels=3",
        "images": "48",
        "images from": "tensor",
        "image size": "3x16x16",
        "seed": "5",
        "device": "cpu",
    }
    for each in (result, tmp_path / "run"):
        text, _ = written(each, tmp_path)
        found = dict(re.findall("<td>([^<]*)</td><td>([^<]*)</td></tr>", text))
        assert expected.items() <= found.items()
        assert re.match(rf"pretextkit {pk.__version__}, torch .*, torchvision .*, Python", found["versions"])
        assert "<h1>Pretraining: simclr on small-cnn</h1>" in text
        assert "A Python program called pretrain(…) with the settings above" in text
        assert "extends" not in text
    assert found["epochs"] == "0.666667"


def test_report_of_a_command_shows_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    for number, image in enumerate(IMAGES[:8]):
        Image.fromarray((image * 255).byte().permute(1, 2, 0).numpy()).save(f"photos/{number}.png")
    call = "pretextkit pretrain photos --task rotation --backbone small-cnn --size 16 --steps 2 --batch-size 4"
    call += " --device cpu --no-progress --seed 3 --out run"
    assert main(call.split()[1:]) == 0
    assert main(["report", "run", "--out", "run.html"]) == 0
    text = Path("run.html").read_text("utf-8")
    [shown] = re.findall("<pre>(pretextkit [^<]*)</pre>", text)
    assert sorted(shown.split()) == sorted(call.split())
    assert "<h1>Pretraining: rotation on small-cnn</h1>" in text
    assert "<td>images from</td><td>photos</td>" in text
    assert "<td>image size</td><td>3x16x16, fit crop</td>" in text
    again = shown.replace("--out run", "--out again")
    assert main(again.split()[1:]) == 0
    weights = [pk.load_backbone(f"{folder}/backbone.pt").state_dict() for folder in ("run", "again")]
    torch.testing.assert_close(weights[0], weights[1], rtol=0, atol=0)
    pretrain(pk.tasks.Rotation(TinyBackbone()), IMAGES, steps=1, batch_size=4, checkpoint="other", **QUIET)
    assert "command" not in Path("other/settings.json").read_text("utf-8")


def test_report_of_a_run_without_settings_claims_no_call(tmp_path: Path) -> None:
    (tmp_path / "history.csv").write_text("epoch,loss\n1,0.5\n")
    text, page = written(tmp_path, tmp_path)
    assert page.headings == ["Training", "How to repeat"]
    assert "<h1>Training</h1>" in text
    assert "The result does not name the call that made it." in text


def test_report_of_an_extended_run_names_the_first_run(tmp_path: Path) -> None:
    for steps in (2, 4):
        pretrain(pk.tasks.Rotation(TinyBackbone()), IMAGES, steps=steps, batch_size=8, checkpoint=tmp_path, **QUIET)
    text, _ = written(tmp_path, tmp_path)
    assert "The run extended a finished run of 2 steps, which comes first." in text


def test_views_of_rotation_have_angles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Any] = []

    def views(batch: Any, **options: Any) -> Any:
        drawn.append(options)
        return plots.views(batch, **options)

    monkeypatch.setattr(_sections, "views", views)
    written(History(), tmp_path, images=IMAGES, task=pk.tasks.Rotation(TinyBackbone()))
    assert drawn == [{"label_names": ("0°", "90°", "180°", "270°")}]


def test_comparison_bars_show_chance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chances: list[Any] = []

    def comparison(rows: Any, *, chance: float | None) -> Any:
        chances.append(chance)
        return plots.comparison(rows, chance=chance)

    monkeypatch.setattr(_sections, "comparison", comparison)
    options: dict[str, Any] = {"epochs": 1, "batch_size": 12, "label_fractions": ()}
    result = compare(["rotation"], TinyBackbone, TRAIN, TEST, **options, **QUIET)
    text, _ = written(result, tmp_path)
    old = Comparison(tuple(replace(run, linear_report=None) for run in result.runs), result.settings)
    written(old, tmp_path)
    assert chances == [pytest.approx(1 / 3), None]
    assert "<h1>Comparison: rotation on TinyBackbone</h1>" in text


def test_probe_report_shows_errors_of_the_scored_images(tmp_path: Path) -> None:
    result = linear_probe(TinyBackbone(), TRAIN, TEST)
    text, page = written(result, tmp_path, images=TEST[0], title="a < b")
    expected = ["What was run", "Result", "Classes", "Worst errors", "Features", "How to repeat"]
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
    expected = ["What was run", "Result", "Classes", "How to repeat"]
    assert page.headings[:5] == [*(f"Neighbors: {each}" for each in expected), "Tuned: What was run"]
    assert "knn_probe(…)" in text
    assert "freeze_and_finetune(…)" in text
    check_alone(text, page)


def test_comparison_report_is_equal_from_its_folder(tmp_path: Path) -> None:
    options: dict[str, Any] = {"epochs": 1, "batch_size": 12, "label_fractions": (0.5, 1.0), "finetune_steps": 1}
    result = compare([], TinyBackbone, TRAIN, TEST, save=tmp_path / "saved", **options, **QUIET)
    text, page = written(result, tmp_path, title="Comparison")
    check_alone(text, page)
    assert page.headings == ["What was run", "Result", "Settings of each run", "How to repeat"]
    assert "<td>train</td><td>36 images</td>" in text
    assert "{}" not in text
    assert text == written(tmp_path / "saved", tmp_path, title="Comparison")[0]


def test_anomaly_report_shows_highest_scores_first(tmp_path: Path) -> None:
    result = AnomalyScores(torch.linspace(0, 1, 48), files=tuple(f"{i}.png" for i in range(48)))
    text, page = written(result, tmp_path, images=IMAGES)
    check_alone(text, page)
    assert page.headings == ["What was run", "Result", "Highest scores", "Images", "How to repeat"]
    assert text.index("47.png") < text.index("46.png")
    assert re.findall(r"\.png</td><td>([^<]*)", text)[:3] == ["1.000", "0.979", "0.957"]
    assert len(page.pictures) == 3
    named, page = written({"Mahalanobis distance": result}, tmp_path)
    assert page.headings[:2] == ["What was run", "Result"]
    assert "<h1>Mahalanobis distance</h1>" in named
    assert "Mahalanobis distance: from 0.000 to 1.000, median 0.500" in named


def test_anomaly_report_names_the_function_and_what_it_measures(tmp_path: Path) -> None:
    scored = AnomalyScores(torch.linspace(0, 1, 48), measure="l2 error of the reconstruction (max)", by="my_score")
    text, _ = written(scored, tmp_path)
    assert "<td>my_score</td>" in text
    assert "A Python program called my_score(…) with the settings above" in text
    assert "L2 error of the reconstruction (max): from 0.000 to 1.000, median 0.500" in text
    unknown, _ = written(AnomalyScores(scored.scores), tmp_path)
    assert "Anomaly score: from 0.000 to 1.000" in unknown
    assert "does not name the call that made it" in unknown


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


def test_folder_as_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"a file to write at .*, but got a folder\. For example .*report\.html"):
        report.write(History(({"epoch": 1.0, "loss": 1.0},)), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_folder_without_a_result_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"which has neither\. Pass the folder given to pretrain\(checkpoint="):
        report.write(tmp_path, tmp_path / "report.html")
    (tmp_path / "history.csv").write_text("epoch,loss\n1,abc\n")
    with pytest.raises(DataError, match="Expected the history that a training wrote, but got ValueError"):
        report.write(tmp_path, tmp_path / "report.html")
