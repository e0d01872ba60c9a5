from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from pretextkit.comparison import _resources as memory
from pretextkit.comparison._resources import peak_memory, reset_peak_memory

CPU = torch.device("cpu")
MB = 1_000_000


@pytest.mark.skipif(sys.platform == "win32", reason="no measurement on Windows")
def test_peak_memory_includes_freed_memory() -> None:
    reset_peak_memory(CPU)
    before = peak_memory(CPU)
    tensor = torch.ones(25 * MB)  # 100 MB, written to
    tensor.zero_()
    del tensor
    after = peak_memory(CPU)
    assert before is not None
    assert after is not None
    assert after >= before
    assert after > 100 * MB


def test_reset_that_fails_is_ignored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(memory, "CLEAR_REFS", tmp_path / "not" / "there")
    reset_peak_memory(CPU)


def test_peak_memory_without_resource_module_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "resource", None)
    assert peak_memory(CPU) is None
