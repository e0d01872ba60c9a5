from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from pretextkit.training import History

ROWS = ({"epoch": 1.0, "step": 4, "loss": 0.1 + 0.2}, {"epoch": 2.0, "step": 8, "loss": 1e-9, "accuracy": 0.5})


def test_history_gives_last_row_and_columns() -> None:
    history = History(ROWS)
    assert history.last is ROWS[1]
    assert history.column("step") == [4, 8]
    assert History().last == {}
    assert History().column("loss") == []


def test_save_json_keeps_numbers_exact(tmp_path: Path) -> None:
    History(ROWS).save_json(tmp_path / "history.json")
    text = (tmp_path / "history.json").read_text()
    assert json.loads(text) == list(ROWS)
    assert text.endswith("]\n")


def test_save_csv_has_all_columns_and_exact_numbers(tmp_path: Path) -> None:
    History(ROWS).save_csv(tmp_path / "history.csv")
    with (tmp_path / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["epoch", "step", "loss", "accuracy"]
    assert [{name: float(value) for name, value in row.items() if value} for row in rows] == list(ROWS)
    assert rows[0]["accuracy"] == ""


@pytest.mark.parametrize("save", [History.save_csv, History.save_json])
def test_save_replaces_an_existing_file(tmp_path: Path, save: object) -> None:
    assert callable(save)
    save(History(ROWS * 5), tmp_path / "file")
    save(History(ROWS[:1]), str(tmp_path / "file"))
    assert "accuracy" not in (tmp_path / "file").read_text()
