from __future__ import annotations

import json
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pytest

from pretextkit.errors import DataError
from pretextkit.functional import Comparison, ComparisonRun, LayerScore
from pretextkit.plots import comparison, label_efficiency


def run(row: str, seed: int, linear: float = 0.5, **others: Any) -> ComparisonRun:
    values: dict[str, Any] = {
        "layer": "stage2",
        "linear_last": linear - 0.1,
        "layers": {
            "stage1": LayerScore(linear - 0.1, 0.3, 1e-3, 16, 1.2),
            "stage2": LayerScore(linear, 0.4, 0.1, 32, 1.1),
        },
        "knn": linear / 2,
        "finetuned": {10: linear - 0.3, 1000: linear + 0.1},
        "steps": 4,
        "images": 1024,
        "views_seen": 4096.0,
        "seconds": 10.0,
        "peak_memory": 500_000_000,
        "training": {"epoch": 1.0, "loss": 0.25},
    }
    return ComparisonRun(method=row, seed=seed, linear=linear, **{**values, **others})


RESULT = Comparison(
    (
        run("random init", 0, 0.4, seconds=0.0, peak_memory=None),
        run("random init", 1, 0.6, layer="stage1", seconds=0.0, peak_memory=None),
        run("rotation", 0, 0.8, seconds=100.0, peak_memory=400_000_000),
        run("rotation", 1, 0.9, seconds=300.0),
    ),
    {"epochs": 2, "seeds": [0, 1]},
)


def test_accuracies_map_methods_to_values_per_seed() -> None:
    assert RESULT.accuracies() == {"random init": [0.4, 0.6], "rotation": [0.8, 0.9]}
    assert RESULT.accuracies("knn") == {"random init": [0.2, 0.3], "rotation": [0.4, 0.45]}
    assert RESULT.label_efficiency()["rotation"] == {
        10: pytest.approx([0.5, 0.6]),
        1000: pytest.approx([0.9, 1.0]),
    }


def test_table_shows_mean_and_sample_deviation() -> None:
    header, random, rotation = RESULT.table()
    assert header == [
        *("%", "Linear", "Linear, last stage", "kNN", "Fine-tuned, 10 labels", "Fine-tuned, 1,000 labels"),
        *("Images", "Views", "Training, s", "Peak memory, MB"),
    ]
    assert random[:2] == ["random init", "50.0 ± 14.1"]  # sqrt(2 * 0.1^2)
    assert rotation[:2] == ["rotation", f"{100 * mean([0.8, 0.9]):.1f} ± {100 * stdev([0.8, 0.9]):.1f}"]
    assert rotation[2:] == ["75.0 ± 7.1", "42.5 ± 3.5", "55.0 ± 7.1", "95.0 ± 7.1", "1,024", "4,096", "200", "500"]
    assert random[-2:] == ["0", ""]


def test_table_of_a_single_seed_has_no_deviation() -> None:
    result = Comparison((run("simclr", 0, 0.75),), {})
    assert result.table()[1][1:4] == ["75.0", "65.0", "37.5"]


def test_comparison_prints_aligned_columns() -> None:
    lines = str(RESULT).splitlines()
    assert len(lines) == 3
    header = lines[0].index("Linear") + len("Linear")
    assert lines[1][:header].endswith("50.0 ± 14.1")
    assert lines[2][:header].endswith("85.0 ± 7.1")


def test_json_round_trip_keeps_everything(tmp_path: Path) -> None:
    RESULT.save(tmp_path / "new" / "comparison.json")
    assert Comparison.load(tmp_path / "new" / "comparison.json") == RESULT
    assert Comparison.from_dict(json.loads(json.dumps(RESULT.to_dict()))) == RESULT
    assert Comparison.from_dict(RESULT.to_dict()) == RESULT


@pytest.mark.parametrize("values", [{}, {"runs": [{"row": "a"}], "settings": {}}, {"runs": 1, "settings": {}}, []])
def test_invalid_json_is_refused(values: Any) -> None:
    with pytest.raises(
        DataError, match=r"Expected the data of Comparison\.to_dict, but got \w+: .*Read the comparison\.json"
    ):
        Comparison.from_dict(values)


def test_results_are_accepted_by_plots() -> None:
    bars = comparison(RESULT.accuracies("linear")).axes[0]
    assert [text.get_text() for text in bars.texts] == ["85.0 ± 7.1", "50.0 ± 14.1"]  # the highest first
    curve = label_efficiency(RESULT.label_efficiency()).axes[0]
    assert [line.get_label() for line in curve.lines] == ["random init", "rotation"]
