"""Scripts of the gallery hold numbers of a committed report, and fit the column of their page."""

from __future__ import annotations

import ast
import json
from typing import Any

import pytest

from tests.helpers import ROOT

GALLERY = ROOT / "docs" / "gallery"
RUNS = json.loads((ROOT / "docs/figures/cifar10-comparison.json").read_text("utf-8"))["comparison"]["runs"]


def value_of(name: str, variable: str) -> dict[str, Any]:
    """Read the literal that a script assigns to a variable."""
    for node in ast.parse((GALLERY / f"{name}.py").read_text("utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == variable:
            value: dict[str, Any] = ast.literal_eval(node.value)
            return value
    raise AssertionError(f"Expected {variable} in {name}.py.")


def test_numbers_of_the_bars_are_those_of_the_report() -> None:
    expected: dict[str, list[float]] = {}
    for run in RUNS:
        expected.setdefault(run["method"], []).append(round(run["linear"], 3))
    assert value_of("comparison", "accuracies") == expected


def test_numbers_of_the_lines_are_those_of_the_report() -> None:
    expected: dict[str, list[list[float]]] = {run["method"]: [[], [], []] for run in RUNS}
    for run in RUNS:
        for seeds, labels in zip(expected[run["method"]], ("80", "800", "8000"), strict=True):
            seeds.append(round(100 * run["finetuned"][labels], 1))
    assert value_of("label_efficiency", "finetuned") == expected


@pytest.mark.parametrize("path", sorted(GALLERY.glob("*.py")), ids=lambda path: path.stem)
def test_code_fits_the_column_of_its_page(path: Any) -> None:
    code = path.read_text("utf-8").split('"""', 2)[2]
    assert max(map(len, code.splitlines())) <= 88
