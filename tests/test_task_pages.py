"""The page of each task says what the task is, when it does not suit, and what its metrics mean."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest

from tests.helpers import ROOT, load_script


@pytest.fixture(scope="module")
def pages() -> ModuleType:
    return load_script("docs/task_pages.py")


NAMES = load_script("docs/task_pages.py").task_names()


@pytest.mark.parametrize("name", NAMES)
def test_page_has_every_part(name: str, pages: ModuleType, tmp_path: Path) -> None:
    text = pages.page(name, ROOT / "docs" / "figures", tmp_path)
    assert "When not to use it\n------------------\n\nNot suited to " in text
    assert "Metrics\n-------\n" in text
    assert f"Registered as ``{name}``" in text
    assert "Recommended for 8,000 images: a learning rate of" in text
    for metric, better, chance in pages.metrics_of(name):
        assert f"``{metric}``\n     - {better}\n     - {chance}" in text
    assert f"figures/task-{name}.png" in text


def test_measured_rows_stand_beside_random_weights(pages: ModuleType, tmp_path: Path) -> None:
    rows = {"byol": [[0.5, 0.7]], "random init": [[0.4, 0.4]], "simclr": [[0.9]]}
    steps = [{"step": 10, "loss": 2.0, "spread": 0.5}, {"step": 20, "loss": 1.0, "spread": 0.4}]
    runs = {"digits; byol; 0": steps, "digits; simclr; 0": steps, "digits; random init; 0": []}
    curves = {key: {"curve": curve} for key, curve in runs.items()}
    report = {"tables": {"digits": {"columns": ["kNN"], "rows": rows}}, "rows": curves}
    (tmp_path / "methods.json").write_text(json.dumps(report))
    text = pages.page("byol", tmp_path, tmp_path)
    assert "Measured: digits" in text
    assert "* - random init\n     - 40.0 ± 0.0\n   * - byol\n     - 60.0 ± 14.1\n" in text
    assert "90.0" not in text
    assert "A run of the table above, digits, seed 0" in text
    assert (tmp_path / "curve-byol.png").exists()
    assert "Expected curve" not in pages.page("nnclr", tmp_path, tmp_path)
    assert pages.curves("byol", tmp_path)["digits, seed 0"].column("epoch") == [10, 20]


def test_metric_without_a_meaning_fails(pages: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(pages.AT_CHANCE, "top1")
    with pytest.raises(KeyError):
        pages.metrics_of("byol")
