"""The page for people who come from other libraries writes names that those libraries have."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[1] / "docs" / "how-to" / "coming-from.md").read_text("utf-8")


def names(library: str, pattern: str) -> list[str]:
    """List the names in the first column of a library's table."""
    section = PAGE.split(f"## From {library}\n")[1].split("\n## ")[0]
    cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    code = " ".join(part for cell in cells for part in re.findall(r"`([^`]+)`", cell))
    return sorted(set(re.findall(pattern, code)))


@pytest.mark.filterwarnings("ignore")
def test_names_of_lightly() -> None:
    pytest.importorskip("lightly", reason="lightly is not installed: use the group bench")
    written = names("lightly", r"\b(?:[A-Z]\w*[a-z]\w*|[a-z]+(?:_[a-z0-9]+)+(?=\())\b")
    of_others = {"DataLoader", "Module", "Sequential", "SimCLR", "True"}
    parts = ["data", "loss", "models.modules", "models.utils", "transforms"]
    parts += ["utils.benchmarking", "utils.debug", "utils.lars", "utils.scheduler"]
    known = {name for part in parts for name in dir(importlib.import_module(f"lightly.{part}"))}
    missing = [name for name in written if name not in known | of_others]
    assert len(written) > 15
    assert not missing


def test_names_of_scikit_learn() -> None:
    pytest.importorskip("sklearn")
    parts = ["linear_model", "model_selection", "neighbors", "semi_supervised", "ensemble", "covariance"]
    parts += ["decomposition", "manifold", "pipeline"]
    known = {name for part in parts for name in dir(importlib.import_module(f"sklearn.{part}"))}
    written = names("scikit-learn", r"\b(?:[A-Z][A-Za-z]{2,}|[a-z]+(?:_[a-z]+)+(?=\())")
    assert len(written) > 10
    assert [name for name in written if name not in known] == []
