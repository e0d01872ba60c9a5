"""Every promise of the page of guarantees has a test that exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "explanation" / "guarantees.md"
TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
NUMBERED = re.compile(r"^(\d+)\. (.+(?:\n   .+)*)", re.MULTILINE)


def names_in(path: str) -> set[str]:
    return {node.name for node in ast.walk(ast.parse((ROOT / path).read_text())) if isinstance(node, ast.FunctionDef)}


def test_every_named_test_exists() -> None:
    named = TEST.findall(PAGE.read_text())
    assert len(named) > 20
    missing = [f"{path}::{name}" for path, name in named if name not in names_in(path)]
    assert not missing


def test_every_promise_has_a_numbered_item_of_tests() -> None:
    sections = [text for text in PAGE.read_text().split("\n## ") if "<details>" in text]
    assert len(sections) >= 5
    for section in sections:
        promises, tests = (NUMBERED.findall(part) for part in section.split("<details>"))
        assert promises
        assert [number for number, _ in promises] == [number for number, _ in tests]
        assert all(TEST.search(item) for _, item in tests)
