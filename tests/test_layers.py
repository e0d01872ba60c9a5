"""Imports inside the package point downwards in the plan of docs/explanation/design.md."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.helpers import ROOT

PACKAGE = ROOT / "src" / "pretextkit"
PLAN = re.compile(r"## The plan\n.*?```text\n(.*?)```", re.DOTALL)
ENTRY = re.compile(r"(?:^|\s{2,})(\w+)(?:/|\.py)(?=\s{2,})")


def layers(plan: str) -> dict[str, int]:
    """Map the names in a plan to the number of their line, which grows downwards."""
    return {name: number for number, line in enumerate(plan.splitlines()) for name in ENTRY.findall(line)}


def design() -> tuple[dict[str, int], set[str]]:
    """Return the layers of design.md, and the folders beside the layers, which follow an empty line."""
    found = PLAN.search((ROOT / "docs" / "explanation" / "design.md").read_text())
    assert found is not None
    inside, beside = found[1].strip().split("\n\n")
    return layers(inside), set(layers(beside))


def imports(path: Path) -> Iterator[str]:
    """Yield the parts of pretextkit that a file imports, ``pretextkit.data._load`` as ``data``."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "pretextkit":
            names = [f"pretextkit.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        else:
            continue
        yield from (name.split(".")[1] for name in names if name.startswith("pretextkit."))


def part(path: Path) -> str:
    """Return the folder or file of the package in which a module lies, without its ending."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def upward(source: str, imported: str, rank: dict[str, int]) -> bool:
    return source != imported and rank[source] >= rank[imported]


def test_layers_reads_two_names_per_line() -> None:
    assert layers("tasks/    tasks\nlosses/   losses     views/  views\n_seeding.py  seeds") == {
        "tasks": 0, "losses": 1, "views": 1, "_seeding": 2
    }  # fmt: skip


def test_upward_detects_import_from_same_or_higher_line() -> None:
    rank = {"tasks": 0, "losses": 1, "views": 1}
    assert upward("losses", "tasks", rank)
    assert upward("losses", "views", rank)
    assert not upward("tasks", "views", rank)
    assert not upward("tasks", "tasks", rank)


def test_plan_names_every_part_of_the_package() -> None:
    rank, beside = design()
    parts = {part(path) for path in PACKAGE.rglob("*.py")} - {"__init__"}
    assert sorted(parts - set(rank) - beside) == []
    assert beside == {"plots", "report", "testing"}


def test_imports_point_downwards() -> None:
    rank, beside = design()
    wrong = [
        f"{path.relative_to(PACKAGE)} imports {imported}"
        for path in sorted(PACKAGE.rglob("*.py"))
        if part(path) != "__init__" and part(path) not in beside
        for imported in set(imports(path)) - {"_registry_types"}  # a type stub, read by type checkers only
        if imported in beside or upward(part(path), imported, rank)
    ]
    assert wrong == []
