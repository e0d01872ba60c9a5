"""The gallery has a short script for each plot, which the build of the documentation runs, and a card for each task."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import pretextkit as pk
from pretextkit import plots
from tests.helpers import ROOT, load_script

SCRIPTS = sorted((ROOT / "docs" / "gallery").glob("*.py"))


def test_every_plot_has_a_script_of_its_name() -> None:
    assert [path.stem for path in SCRIPTS] == sorted(plots.__all__)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_script_is_short_and_ends_with_its_plot(path: Path) -> None:
    text = path.read_text("utf-8")
    assert len(text.splitlines()) <= 40
    last = ast.parse(text).body[-1]  # its value is the figure that the page shows
    assert isinstance(last, ast.Expr)
    assert ast.unparse(last).startswith(f"plots.{path.stem}(")


def test_every_task_has_a_card_and_a_thumbnail(tmp_path: Path) -> None:
    pages: Any = load_script("docs/task_pages.py")
    text = pages.cards(ROOT / "docs" / "figures", tmp_path)
    for name in pages.task_names():
        title = pk.pretext_tasks[name].__name__
        assert f".. grid-item-card:: {title}\n      :link: /reference/generated/tasks/{name}\n" in text
        assert f"      :img-top: /reference/generated/tasks/{name}.png\n" in text
        with Image.open(tmp_path / f"{name}.png") as image:
            assert max(image.size) <= 320
