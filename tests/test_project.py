"""Files of the project that name versions agree."""

from __future__ import annotations

import re
from pathlib import Path

import pretextkit as pk

ROOT = Path(__file__).parents[1]


def text(path: str) -> str:
    return (ROOT / path).read_text("utf-8")


def test_citation_has_the_version_of_the_package() -> None:
    assert f"\nversion: {pk.__version__}\n" in text("CITATION.cff")


def test_workflow_tests_every_python_of_the_classifiers() -> None:
    named = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', text("pyproject.toml"))
    (tested,) = re.findall(r"python: \[(.*)\]", text(".github/workflows/gate.yml"))
    assert [each.strip(' "') for each in tested.split(",")] == named


def test_workflow_runs_every_session_of_the_gate() -> None:
    gate = set(re.findall(r"^check (\w+)", text(".ci/run"), re.MULTILINE))
    workflow = text(".github/workflows/gate.yml")
    (sessions,) = re.findall(r"session: \[(.*)\]", workflow)
    assert {each.strip() for each in sessions.split(",")} | {"tests"} == gate
    assert "nox -s tests" in workflow
