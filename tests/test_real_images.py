"""What only real images show; they lie in the folder that PRETEXTKIT_DATA names."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

import pretextkit as pk
from pretextkit.functional import pretrain

SVHN = Path(os.environ.get("PRETEXTKIT_DATA", ".")) / "svhn.npz"

pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif(not SVHN.is_file(), reason="PRETEXTKIT_DATA names no folder with svhn.npz"),
]


def test_street_digits_load_as_they_are() -> None:
    data = pk.data.load(SVHN)
    assert data.train_images.shape == (8001, 3, 32, 32)
    assert data.test_images.shape == (999, 3, 32, 32)
    assert data.train_images.dtype == torch.uint8
    assert torch.bincount(data.train_labels).gt(0).tolist() == [True] * 10
    assert len(pk.data.stratified_subset(data.train_labels, 732)) == 732


def test_rotations_of_street_digits_are_learned() -> None:
    data = pk.data.load(SVHN)
    torch.manual_seed(0)
    backbone = pk.backbones["small-cnn"]()
    task = pk.pretext_tasks["rotation"](backbone)
    pretrain(task, data.train_images[:2000], steps=60, batch_size=32, seed=0, progress=False)
    task.eval()
    with torch.no_grad():
        rotation = task.step(data.test_images, torch.Generator()).metrics["accuracy"].item()
    assert rotation > 0.5, "chance is 0.25"
