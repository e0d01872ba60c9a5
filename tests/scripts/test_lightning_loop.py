"""The example for Lightning resumes exactly: its checkpoint has the generator of the views."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import pretextkit as pk

lightning = pytest.importorskip("lightning")
EXAMPLE = Path(__file__).parents[2] / "examples" / "lightning_loop.py"


def pretraining() -> Any:
    spec = importlib.util.spec_from_file_location("lightning_loop", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    torch.manual_seed(0)
    return module.Pretraining(pk.tasks.SimCLR(pk.models.SmallCNN()))


def train(module: Any, epochs: int, path: Path, begin: Path | None = None) -> dict[str, torch.Tensor]:
    images = torch.rand(16, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = lightning.Trainer(max_epochs=epochs, accelerator="cpu", default_root_dir=path.parent, **options)
    trainer.fit(module, DataLoader(TensorDataset(images), 8), ckpt_path=begin, weights_only=True)
    trainer.save_checkpoint(path)
    return {name: value.clone() for name, value in module.state_dict().items()}


@pytest.mark.filterwarnings("ignore")
def test_resumed_training_equals_one_without_a_stop(tmp_path: Path) -> None:
    whole = train(pretraining(), 2, tmp_path / "whole.ckpt")
    first = train(pretraining(), 1, tmp_path / "first.ckpt")
    resumed = train(pretraining(), 2, tmp_path / "resumed.ckpt", begin=tmp_path / "first.ckpt")
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())
    assert not all(torch.equal(value, first[name]) for name, value in whole.items())
