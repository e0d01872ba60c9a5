"""Tables and plots of svhn_few_labels.py."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

from _redraw import chance_of, read_report
from _report import Rows

from pretextkit import plots

__all__ = ["by_method", "formatted", "save_plots", "tables_of"]


def by_method(rows: Rows) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Group all rows by method and number of labels, one value for each seed."""
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for name, value in rows.all().items():
        method, labels, _ = name.split("; ")
        found.setdefault(method, {}).setdefault(labels, []).append(value)
    return found


def tables_of(found: dict[str, dict[str, list[dict[str, Any]]]], labels: Sequence[int], main: int) -> dict[str, Any]:
    """Arrange the measurements, one value for each seed."""

    def accuracies(row: str, number: int) -> list[float] | None:
        return [run["accuracy"] for run in found[row].get(str(number), [])] or None

    probes = {row: found[row][str(main)] for row in found if row.endswith("linear probe") and str(main) in found[row]}
    layers = list(next(iter(probes.values()))[0]["layers"]) if probes else []
    own = {row.split(",")[0]: of_seeds["0"] for row, of_seeds in found.items() if "0" in of_seeds}
    rotations = {name: of_seeds for name, of_seeds in own.items() if "classes" in of_seeds[0]}
    classes = max((len(of_seeds[0]["classes"]) for of_seeds in rotations.values()), default=0)
    numbers = sorted({*labels, *(int(number) for of_seeds in found.values() for number in of_seeds)} - {0})
    return {
        "Accuracy by number of labels": {
            "columns": [f"{number} labels" for number in numbers],
            "rows": {row: [accuracies(row, number) for number in numbers] for row in found if "0" not in found[row]},
        },
        f"Linear probe of every layer, {main} labels": {
            "columns": [row.split(",")[0] for row in probes],
            "rows": {
                layer: [[run["layers"][layer] for run in of_seeds] for of_seeds in probes.values()] for layer in layers
            },
        },
        "Rotation accuracy, test images": {
            "columns": list(rotations),
            "rows": {
                "all": [[run["accuracy"] for run in of_seeds] for of_seeds in rotations.values()],
                **{
                    f"class {label}": [[run["classes"][label] for run in of_seeds] for of_seeds in rotations.values()]
                    for label in range(classes)
                },
            },
        },
        "Cost of pretraining": {
            "columns": ["seconds, median of seeds"],
            "rows": {name: [round(median(run["seconds"] for run in of_seeds))] for name, of_seeds in own.items()},
        },
    }


def formatted(cell: Any) -> str:
    """Format accuracies of several seeds as mean and standard deviation, in percent."""
    if not isinstance(cell, list):
        return "" if cell is None else str(cell)
    return f"{100 * mean(cell):.1f}" + (f" ± {100 * stdev(cell):.1f}" if len(cell) > 1 else "") if cell else ""


def save_plots(path: Path) -> None:
    """Draw the lines and the bars of a report beside it: lines of several numbers of labels, bars of the main one."""
    report = read_report(path)
    by_labels, _, rotations, _ = report["tables"].values()
    numbers = [int(column.split()[0]) for column in by_labels["columns"]]
    found = {
        row: {number: cell for number, cell in zip(numbers, cells, strict=True) if cell}
        for row, cells in by_labels["rows"].items()
    }
    main = max(numbers, key=lambda number: sum(number in of_row for of_row in found.values()))
    lines = {row: of_row for row, of_row in found.items() if len(of_row) > 1} or found
    bars = {row: of_row[main] for row, of_row in found.items() if main in of_row}
    chance, baselines = chance_of(report), ("random init", "supervised", "FixMatch")
    figures = {
        "curve": plots.label_efficiency(lines, title="Test accuracy by number of labels", chance=chance),
        "bars": plots.comparison(bars, title=f"{main} labels", chance=chance, baselines=baselines),
    }
    if rotations["columns"]:
        accuracies = {row: cells[0] for row, cells in rotations["rows"].items()}
        figures["rotations"] = plots.comparison(accuracies, title="Rotation accuracy by class", chance=1 / 4)
    for name, figure in figures.items():
        figure.savefig(path.with_name(f"{path.stem}-{name}.png"))
