"""On real images: what the library is for, in a minute."""

from __future__ import annotations

import copy
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import pretextkit as pk
from pretextkit.functional import knn_probe, linear_probe, pretrain

pytestmark = [pytest.mark.data, pytest.mark.slow]


@pytest.fixture(name="svhn", scope="module")
def _svhn() -> dict[str, tuple[Tensor, Tensor]]:
    """House numbers: 2,000 images to learn from, 999 to test on."""
    folder = os.environ.get("PRETEXTKIT_DATA")
    path = Path(folder or "") / "svhn.npz"
    if not folder or not path.is_file():
        pytest.skip("needs svhn.npz in the folder named by PRETEXTKIT_DATA")
    with np.load(path) as arrays:
        return {
            split: (
                torch.from_numpy(arrays[f"{split}_images"][:2000]).permute(0, 3, 1, 2).contiguous(),
                torch.from_numpy(arrays[f"{split}_labels"][:2000]),
            )
            for split in ("train", "test")
        }


def test_rotation_teaches_more_about_digits_than_random_weights(svhn: dict[str, tuple[Tensor, Tensor]]) -> None:
    torch.manual_seed(0)
    task = pk.tasks.Rotation(pk.models.SmallCNN())
    untrained = copy.deepcopy(task.backbone)
    untrained.normalization.measure(svhn["train"][0])
    result = pretrain(task, svhn["train"][0], epochs=2, batch_size=64, device="cpu", progress=False)
    assert result.history.last["accuracy"] > 0.5  # a quarter is chance
    with torch.no_grad():
        held_out = task.eval().step(svhn["test"][0][:200], torch.Generator()).metrics["accuracy"]
    assert held_out > 0.5

    trained = linear_probe(task.backbone, svhn["train"], svhn["test"], layers="all")
    random = linear_probe(untrained, svhn["train"], svhn["test"], layers="all")
    assert trained.accuracy > random.accuracy + 0.05
    assert trained.accuracy > 0.35  # always the commonest digit: about a fifth
    assert knn_probe(task.backbone, svhn["train"], svhn["test"]).accuracy > 0.2
