"""mypy and pyright accept every line of ``passes`` and report exactly the lines marked ``# E`` in ``fails``."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
Errors = dict[Path, dict[int, str]]


def run(*command: str) -> str:
    """Run a type checker. Exit status 1 means that it found type errors, and 2 that it failed."""
    answer = subprocess.run([sys.executable, "-m", *command], cwd=HERE, capture_output=True, text=True, check=False)
    assert answer.returncode in (0, 1), answer.stdout + answer.stderr
    return answer.stdout


def mypy() -> Errors:
    errors: Errors = {}
    for line in run("mypy", "--strict", "--config-file=", "--explicit-package-bases", "passes", "fails").splitlines():
        if found := re.match(r"(.+?):(\d+): error: (.*)", line):
            errors.setdefault(HERE / found[1], {})[int(found[2])] = found[3]
    return errors


def pyright() -> Errors:
    errors: Errors = {}
    for found in json.loads(run("pyright", "--outputjson", "--project", "."))["generalDiagnostics"]:
        if found["severity"] == "error":
            line = found["range"]["start"]["line"] + 1
            errors.setdefault(Path(found["file"]), {})[line] = found["message"]
    return errors


@pytest.fixture(scope="module", params=[mypy, pyright], ids=["mypy", "pyright"])
def errors(request: pytest.FixtureRequest) -> Errors:
    checker: Callable[[], Errors] = request.param
    return checker()


def marked(path: Path) -> set[int]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return {number for number, line in enumerate(lines, start=1) if re.search(r"# E\b", line)}


@pytest.mark.parametrize("path", sorted(HERE.glob("passes/*.py")), ids=lambda path: path.name)
def test_checker_accepts_file_without_errors(errors: Errors, path: Path) -> None:
    assert errors.get(path, {}) == {}


@pytest.mark.parametrize("path", sorted(HERE.glob("fails/*.py")), ids=lambda path: path.name)
def test_checker_reports_marked_lines_only(errors: Errors, path: Path) -> None:
    assert marked(path), "the file marks no line"
    found = errors.get(path, {})
    assert {line: text for line, text in found.items() if line not in marked(path)} == {}, "errors on unmarked lines"
    assert marked(path) - set(found) == set(), "marked lines without an error"
