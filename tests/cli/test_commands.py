"""Every command from folder to result, and the program that ``--show-code`` prints."""

from __future__ import annotations

import csv
import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import pretextkit as pk
from pretextkit.cli import main
from pretextkit.cli._commands import COMMANDS
from tests.cli.conftest import TRAIN

LABELS = ["--labels", "labels.csv"]
FINETUNE = ["--steps", "2", "--device", "cpu", "--no-progress"]
COMPARE = ["--tasks", "rotation", "--backbone", "small-cnn", "--epochs", "1", "--batch-size", "16", "--label-fractions"]

CALLS: dict[str, list[str]] = {
    "pretrain": ["pretrain", "photos", "--backbone", "small-cnn", "--out", "new", *TRAIN],
    "pretrain task": [
        *("pretrain", "photos", "--backbone", "run", "--out", "new", *TRAIN),
        *("--task", "autoencoder", "--task-option", "bottleneck=8"),
    ],
    "probe": ["probe", "photos", "--backbone", "run", *LABELS, "--layers", "last"],
    "probe test": [
        *("probe", "photos", "new-photos", "--backbone", "small-cnn", *LABELS, "--test-labels", "new-labels.csv"),
        *("--layers", "stage1", "stage2", "--pool", "1", "--out", "probe.pt"),
    ],
    "finetune": ["finetune", "photos", "--backbone", "run", *LABELS, "--out", "new.pt", *FINETUNE],
    "fixmatch": ["fixmatch", "photos", "--backbone", "run", *LABELS, "--out", "new.pt", *FINETUNE, "--batch-size", "4"],
    "fixmatch test": [
        *("fixmatch", "photos", "new-photos", "--backbone", "run", *LABELS, "--val-labels", "new-labels.csv"),
        *("--unlabeled", "new-photos", "--checkpoint", "matching", "--out", "new.pt", *FINETUNE),
    ],
    "predict": ["predict", "pets.pt", "new-photos", "--csv", "tables/predictions.csv"],
    "compare": ["compare", "photos", *LABELS, *COMPARE, "--device", "cpu", "--no-progress", "--out", "comparison"],
    "neighbors": ["neighbors", "new-photos/00.png", "photos", "--k", "2", "--backbone", "run", "--csv", "near.csv"],
    "duplicates": ["duplicates", "photos", "--threshold", "0.5", "--csv", "pairs.csv"],
    "anomaly": ["anomaly", "photos", "new-photos", "--backbone", "run", "--csv", "scores.csv"],
    "anomaly patches": ["anomaly", "photos", "new-photos", "--backbone", "run", "--method", "patches", "--k", "2"],
    "select": ["select", "photos", "--n", "3", "--backbone", "run", "--csv", "to_label.csv"],
    "select more": ["select", "photos", "--n", "3", "--method", "k-center", *LABELS, "--csv", "to_label.csv"],
    "report": ["report", "run", "--out", "pages/run.html"],
    "report views": ["report", "run", "--images", "new-photos", "--out", "views.html"],
    "list": ["list"],
}

CONTEXT = ["--task", "context-encoder", "--out", "context"]

KEYS = {
    "pretrain": {"steps", "settings", "history", "last", "seconds"},
    "probe": {"accuracy", "interval", "layer", "layers", "label_count", "cross_validated"},
    "finetune": {"accuracy", "settings", "class_names", "history"},
    "fixmatch": {"accuracy", "settings", "class_names", "history"},
    "predict": {"class_names", "predictions"},
    "compare": {"runs", "settings"},
    "neighbors": {"neighbors"},
    "duplicates": {"duplicates", "redundant"},
    "anomaly": {"scores"},
    "select": {"selection"},
    "report": {"report"},
    "list": {"tasks", "backbones", "heads"},
}


def without_times(text: str) -> str:
    """Replace numbers that measure time, speed and memory, which no two runs share."""
    text = re.sub(r"[\d.,]+ s\b|[\d,]+ images/s", "…", text)
    return re.sub(r"(\d+ +\d+ +)[\d,]+ +[\d,]+$", r"\1…", text, flags=re.MULTILINE)  # of a comparison


def written(folder: Path) -> dict[str, Any]:
    """Read the files of a folder whose contents no clock decides."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.suffix == ".csv" and path.name != "history.csv":
            found[name] = path.read_text()
        elif path.suffix == ".pt" and path.name != "checkpoint.pt" and "previous" not in path.name:
            found[name] = {key: value.clone() for key, value in pk.load_backbone(path).state_dict().items()}
        elif path.is_file():
            found[name] = None
    return found


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_command_is_called() -> None:
    names = [command.name for command in COMMANDS]
    assert {name.split()[0] for name in CALLS} == set(names) == set(KEYS)
    assert len(names) == len(set(names))


@pytest.mark.parametrize("name", CALLS)
def test_json_is_one_object_and_files_are_named(name: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*CALLS[name], "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["command"] == name.split()[0]
    assert set(found) >= KEYS[found["command"]]
    assert all((folder / path).exists() for path in found["files"])
    assert bool(found["files"]) == bool({"--out", "--csv"} & set(CALLS[name]))


@pytest.mark.parametrize("name", CALLS)
def test_shown_code_does_the_same(
    name: str, folder: Path, copies: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    before = written(folder)
    assert main([*CALLS[name], "--show-code"]) == 0
    code = capsys.readouterr().out
    assert written(folder).keys() == before.keys()  # nothing has run
    assert main(CALLS[name]) == 0
    by_command = capsys.readouterr().out
    other = copies("other")
    torch.manual_seed(5)
    exec(compile(code, "shown", "exec"), {"__name__": "__main__"})
    assert without_times(capsys.readouterr().out) == without_times(by_command)
    own, others = written(folder), written(other)
    assert own.keys() == others.keys()
    for path, content in own.items():
        if isinstance(content, dict):
            torch.testing.assert_close(others[path], content, rtol=0, atol=0)
        else:
            assert others[path] == content, path


def test_predictions_have_the_words_of_the_labels(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(CALLS["predict"]) == 0
    rows = table(folder / "tables/predictions.csv")
    assert [row["file"] for row in rows] == sorted(str(path) for path in Path("new-photos").rglob("*.png"))
    assert {row["class"] for row in rows} <= {"red", "blue"}
    assert "Written: tables/predictions.csv" in capsys.readouterr().err
    predictions = pk.load_classifier("pets.pt").predict("new-photos")
    assert [row["class"] for row in rows] == list(predictions.classes)


def test_anomaly_rows_begin_with_the_most_anomalous(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*CALLS["anomaly"], "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["scores"]
    assert [row["score"] for row in rows] == sorted((row["score"] for row in rows), reverse=True)
    assert [row["file"] for row in table(folder / "scores.csv")] == [row["file"] for row in rows]
    assert {row["file"] for row in rows} == {str(path) for path in Path("new-photos").rglob("*.png")}


def test_repeated_pretrain_resumes_the_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call = ["pretrain", "photos", "--backbone", "small-cnn", "--task", "rotation", *TRAIN, "--json"]
    assert main(call) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["resumed_at"] == found["steps"] == 2


def test_saved_backbone_is_read_at_its_training_size(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--backbone", "small-cnn", "--size", "24", "--fit", "pad", "--out", "small", *TRAIN]
    assert main(["pretrain", "photos", *small]) == 0
    capsys.readouterr()
    for backbone in ("small", "small/backbone.pt"):
        assert main(["probe", "photos", "new-photos", *LABELS, "--backbone", backbone, "--show-code"]) == 0
        assert capsys.readouterr().out.count('size=24, fit="pad")') == 2
    assert main(["probe", "photos", *LABELS, "--backbone", "small", "--size", "28", "--show-code"]) == 0
    assert "size=28" in capsys.readouterr().out


def test_second_set_gets_the_size_of_the_first(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["probe", "photos", "new-photos", "--backbone", "small-cnn", "--show-code"]) == 0
    assert 'test = pk.data.FolderImages("new-photos", size=train.size)' in capsys.readouterr().out


def test_columns_of_the_csv_file_are_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call = ["probe", "photos", *LABELS, "--backbone", "run", "--layers", "last"]
    assert main([*call, "--label-column", "color", "--file-column", "0", "--show-code"]) == 0
    assert 'pk.data.CsvLabels("labels.csv", file=0, label="color")' in capsys.readouterr().out
    assert main([*call, "--label-column", "colour"]) == 1
    assert "Did you mean 'color'?" in capsys.readouterr().err


def test_npz_file_takes_the_place_of_a_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import numpy

    images = torch.randint(256, (16, 28, 28), dtype=torch.uint8).numpy()
    numpy.savez("set.npz", train_images=images, train_labels=torch.arange(16).numpy() % 2)
    assert main(["duplicates", "set.npz", "--threshold", "0.5", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["command"] == "duplicates"
    assert main(["duplicates", "set.npz", "--size", "8"]) == 1
    assert "Expected size beside the path of a folder" in capsys.readouterr().err


def test_code_with_workers_runs_in_processes_that_import_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "pets.pt", "new-photos", "--workers", "1", "--show-code"]) == 0
    assert '\nif __name__ == "__main__":\n    classifier' in capsys.readouterr().out


def test_report_draws_the_views_of_the_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    assert main(["pretrain", "photos", "--backbone", "small-cnn", "--task-option", "overlap=2", *CONTEXT, *TRAIN]) == 0
    printed = capsys.readouterr().err
    report = next(line.removeprefix("Report: ") for line in printed.splitlines() if line.startswith("Report: "))
    assert report == "pretextkit report context --images photos --task-option overlap=2"
    assert main([*shlex.split(report)[1:], "--out", "context.html"]) == 0
    assert "Views of ContextEncoder: its input" in (folder / "context.html").read_text("utf-8")
    assert main(CALLS["report"]) == 0
    assert "Views of" not in (folder / "pages/run.html").read_text("utf-8")


def test_views_that_cannot_be_drawn_are_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "run", "--task-option", "temperature=0.2"]) == 2
    assert "--task-option needs --images, whose views are drawn" in capsys.readouterr().err
    Path("compared").mkdir()
    Path("compared/comparison.json").write_text('{"settings": {}, "table": [], "runs": []}')
    assert main(["report", "compared", "--images", "photos"]) == 2
    assert "--images needs the folder of a training; this one holds a comparison" in capsys.readouterr().err
    Path("run/settings.json").write_text('{"task": "mine"}')
    assert main(["report", "run", "--images", "photos"]) == 1
    assert "pretext task" in capsys.readouterr().err
