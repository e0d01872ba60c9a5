"""The loggers that docs/how-to/logging.md shows, each where its package is installed."""

from __future__ import annotations

import re
import time
import warnings
from pathlib import Path
from typing import Any

import pytest

import pretextkit as pk
from pretextkit.functional import pretrain
from pretextkit.testing import toy_images
from tests.helpers import ROOT, generator

PAGE = ROOT / "docs" / "how-to" / "logging.md"


class Images:
    train_images = toy_images(64, size=16, generator=generator())


def run_block(containing: str, **names: Any) -> dict[str, Any]:
    """Run the block of the page that holds a text."""
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    (block,) = [block for block in blocks if containing in block]
    task = pk.pretext_tasks["rotation"](pk.models.SmallCNN())
    scope = {"pk": pk, "pretrain": pretrain, "task": task, "data": Images(), **names}
    exec(compile(block, str(PAGE), "exec"), scope)
    return scope


def test_tensorboard_logs_each_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own dependencies
        scope = run_block("SummaryWriter")
        scope["writer"].close()
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(tmp_path / "logs"))
        events.Reload()
    assert {"loss", "accuracy", "learning_rate"} <= set(events.Tags()["scalars"])
    assert [event.step for event in events.Scalars("loss")] == [2, 4]


def test_wandb_logs_each_row_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="wandb is not installed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_SILENT", "true")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own dependencies
        run_block("wandb.init")
    (file,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    for _ in range(300):  # a process of W&B writes it, on a busy machine after the end of the run
        if file.read_bytes().count(b"accuracy_90") >= 2:
            break
        time.sleep(0.1)
    assert file.read_bytes().count(b"accuracy_90") >= 2  # once for each row
