"""The numbers in docs/explanation/scaling.md match the script, and the script matches the code."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode

import pretextkit as pk
from pretextkit.testing import TinyBackbone
from pretextkit.training._optim import default_learning_rate
from tests.helpers import ROOT, load_script

SCRIPT = "scripts/scaling_tables.py"


@pytest.mark.parametrize("table", ["gather_table", "gradient_table", "rate_table"])
def test_page_has_the_tables_of_the_script(table: str) -> None:
    page = (ROOT / "docs" / "explanation" / "scaling.md").read_text(encoding="utf-8")
    assert getattr(load_script(SCRIPT), table)() in page


def test_gathered_counts_two_rows_for_each_remote_image() -> None:
    rows = torch.zeros(2 * 16, 8)
    assert load_script(SCRIPT).gathered(4, images=16, width=8) == 3 * rows.numel() * rows.element_size()


def test_rate_table_matches_default_learning_rates() -> None:
    for images in (256, 4096, 65536):
        assert f"| {images:,} | {default_learning_rate('lars', images):g} |" in load_script(SCRIPT).rate_table()


@pytest.mark.parametrize(("name", "numbers"), [("simclr", 22), ("jigsaw-context", 53), ("denoising", 73)])
def test_views_draw_the_documented_count_of_numbers(name: str, numbers: int) -> None:
    drawn = [0]

    class Count(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            found = func(*args, **(kwargs or {}))
            drawn[0] += found.numel() if "generator" in (kwargs or {}) else 0
            return found

    task: Any = pk.pretext_tasks[name](TinyBackbone())
    with Count():
        task.views(torch.rand(4, 3, 32, 32), torch.Generator())
    assert drawn[0] == 4 * numbers
