from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import pytest
import torch

from pretextkit.contracts import TaskOutput
from pretextkit.training import History
from pretextkit.training._history import Recorder

ROWS = ({"epoch": 1.0, "step": 4, "loss": 0.1 + 0.2}, {"epoch": 2.0, "step": 8, "loss": 1e-9, "accuracy": 0.5})


def test_history_gives_last_row_and_columns() -> None:
    history = History(ROWS)
    assert history.last is ROWS[1]
    assert history.column("step") == [4, 8]
    assert History().last == {}
    assert History().column("loss") == []


def test_save_json_keeps_numbers_exact(tmp_path: Path) -> None:
    settings = {"batch_size": 64, "learning_rate": 0.1 + 0.2, "augmentation": None}
    History(ROWS, settings).save_json(tmp_path / "history.json")
    text = (tmp_path / "history.json").read_text()
    assert json.loads(text) == {"settings": settings, "rows": list(ROWS)}
    assert text.endswith("}\n")
    History(ROWS, settings).save_settings(tmp_path / "settings.json")
    assert json.loads((tmp_path / "settings.json").read_text()) == settings


def test_save_csv_has_all_columns_and_exact_numbers(tmp_path: Path) -> None:
    History(ROWS).save_csv(tmp_path / "history.csv")
    with (tmp_path / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["epoch", "step", "loss", "accuracy"]
    assert [{name: float(value) for name, value in row.items() if value} for row in rows] == list(ROWS)
    assert rows[0]["accuracy"] == ""


@pytest.mark.parametrize("save", [History.save_csv, History.save_json, History.save_settings])
def test_save_replaces_an_existing_file(tmp_path: Path, save: object) -> None:
    assert callable(save)
    save(History(ROWS * 5), tmp_path / "file")
    save(History(ROWS[:1]), str(tmp_path / "file"))
    assert "accuracy" not in (tmp_path / "file").read_text()


def output(loss: float, accuracy: float = 0.5) -> TaskOutput:
    return TaskOutput(torch.tensor(loss, requires_grad=True), {"accuracy": torch.tensor(accuracy)})


def test_row_has_the_means_of_its_epoch() -> None:
    recorder = Recorder()
    for step, (loss, accuracy) in enumerate([(4.0, 0.0), (2.0, 1.0)]):
        recorder.add(step, output(loss, accuracy), torch.tensor(0.25))
    recorder.flush()
    recorder.close_epoch(epoch=1.0, step=2, learning_rate=0.1, seconds=3.0)
    recorder.add(2, output(1.0, 0.25), torch.tensor(0.25))
    recorder.flush()
    recorder.close_epoch(epoch=2.0, step=3, learning_rate=0.2, seconds=4.0)
    assert recorder.rows == [
        {"epoch": 1.0, "step": 2, "loss": 3.0, "accuracy": 0.5, "learning_rate": 0.1, "seconds": 3.0},
        {"epoch": 2.0, "step": 3, "loss": 1.0, "accuracy": 0.25, "learning_rate": 0.2, "seconds": 4.0},
    ]
    assert list(recorder.rows[0])[:3] == ["epoch", "step", "loss"]


def test_recorder_resumes_within_an_epoch() -> None:
    full = Recorder()
    stopped = Recorder()
    for recorder in (full, stopped):
        recorder.add(0, output(4.0), torch.tensor(0.25))
    stopped.flush()
    resumed = Recorder(stopped.rows, stopped.open)
    for recorder in (full, resumed):
        recorder.add(1, output(1.0), torch.tensor(0.25))
        recorder.flush()
        recorder.close_epoch(epoch=1.0, step=2)
    assert resumed.rows == full.rows
    assert resumed.rows[0]["loss"] == 2.5


def test_values_wait_until_flush() -> None:
    recorder = Recorder()
    recorder.add(0, output(1.0), torch.tensor(0.25))
    assert recorder.latest == {}
    recorder.flush()
    assert recorder.latest == {"loss": 1.0, "accuracy": 0.5}
    recorder.flush()
    assert len(recorder.open) == 1


def test_flush_returns_each_step_once() -> None:
    recorder = Recorder()
    recorder.add(0, output(1.0), torch.tensor(0.25))
    assert recorder.flush() == [(0, {"loss": 1.0, "accuracy": 0.5}, 0.25)]
    assert recorder.flush() == []


def test_recorder_accepts_nan_metrics_and_bf16() -> None:
    recorder = Recorder()
    recorder.add(0, TaskOutput(torch.tensor(1.5, dtype=torch.bfloat16), {"count": torch.tensor(3)}), torch.tensor(0.25))
    recorder.add(1, output(1.0, math.nan), torch.tensor(0.25))
    recorder.flush()
    assert recorder.open[0] == {"loss": 1.5, "count": 3.0}


def test_recorder_detaches_values() -> None:
    recorder = Recorder()
    recorder.add(0, output(1.0), torch.tensor(0.25))
    assert not recorder.waiting[0][2].requires_grad
