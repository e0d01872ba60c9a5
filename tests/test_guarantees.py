"""Every promise in the documents is held by a test that is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "explanation" / "guarantees.md"
TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def names_in(path: str) -> set[str]:
    return {node.name for node in ast.walk(ast.parse((ROOT / path).read_text())) if isinstance(node, ast.FunctionDef)}


def test_every_test_that_the_page_names_is_there() -> None:
    named = TEST.findall(PAGE.read_text())
    assert len(named) > 20
    missing = [f"{path}::{name}" for path, name in named if name not in names_in(path)]
    assert not missing


def test_every_row_of_a_table_names_a_test() -> None:
    promises = re.sub("<!-- table: .*?<!-- end -->", "", PAGE.read_text(), flags=re.DOTALL)  # what was measured
    rows = [line for line in promises.splitlines() if line.startswith("| ") and "---" not in line]
    without = [row for row in rows if not TEST.search(row) and not row.startswith(("| Promise", "| Failure"))]
    assert not without
