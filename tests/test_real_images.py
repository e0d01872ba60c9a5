"""Tests on real images, from the folder in the environment variable PRETEXTKIT_DATA."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

import pretextkit as pk
from pretextkit.functional import linear_probe, pretrain

SVHN = Path(os.environ.get("PRETEXTKIT_DATA", ".")) / "svhn.npz"

pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif(not SVHN.is_file(), reason="PRETEXTKIT_DATA names no folder with svhn.npz"),
]


def test_load_reads_svhn_splits_as_uint8() -> None:
    data = pk.data.load(SVHN)
    assert data.train_images.shape == (8001, 3, 32, 32)
    assert data.test_images.shape == (999, 3, 32, 32)
    assert data.train_images.dtype == torch.uint8
    assert torch.bincount(data.train_labels).gt(0).tolist() == [True] * 10
    assert len(pk.data.stratified_subset(data.train_labels, 732)) == 732


def test_rotation_beats_random_weights_on_svhn() -> None:
    data = pk.data.load(SVHN)
    chosen = pk.data.stratified_subset(data.train_labels, 732)
    few = (data.train_images[chosen], data.train_labels[chosen])
    torch.manual_seed(0)
    task = pk.tasks.Rotation(pk.models.SmallCNN())
    task.backbone.normalization.measure(data.train_images)
    random_init = linear_probe(task.backbone, few, data.test, layers="all", pool=2)
    pretrain(task, data.train_images[:2000], steps=90, batch_size=32, seed=0, device="cpu", progress=False)
    task.eval()
    with torch.no_grad():
        rotation = task.step(data.test_images, torch.Generator()).metrics["accuracy"].item()
    assert rotation > 0.5, "chance is 0.25"
    learned = linear_probe(task.backbone, few, data.test, layers="all", pool=2)
    assert learned.accuracy > random_init.accuracy + 0.05
