"""The accuracy of guesses that tasks state, and its way into the history of a run."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Generator

import pretextkit as pk
from pretextkit.functional import freeze_and_finetune, pretrain
from pretextkit.testing import TinyBackbone, TinyTokenBackbone, toy_images
from tests.helpers import random_images

GUESSING = {"rotation": 1 / 4, "jigsaw": 1 / 64, "jigsaw-context": 1 / 8}


@pytest.mark.parametrize("name", [name for name in pk.pretext_tasks if name != "distillation"])
def test_tasks_with_accuracy_state_that_of_guesses(name: str) -> None:
    task = pk.pretext_tasks.create(name, TinyTokenBackbone() if name == "mae" else TinyBackbone())
    assert task.chance_accuracy == GUESSING.get(name)
    metrics = task.step(toy_images(8, generator=Generator().manual_seed(0)), Generator().manual_seed(0)).metrics
    assert ("accuracy" in metrics) == (name in GUESSING)


def test_chance_of_jigsaw_follows_its_orders() -> None:
    assert pk.tasks.Jigsaw(TinyBackbone(), orders=5).chance_accuracy == 1 / 5


def test_history_records_the_accuracy_of_guesses() -> None:
    images: Any = random_images(8, size=16)
    run: dict[str, Any] = {"steps": 1, "progress": False, "device": "cpu"}
    rotated = pretrain(pk.tasks.Rotation(TinyBackbone()), images, batch_size=4, **run)
    assert rotated.history.settings["chance_accuracy"] == rotated.settings.chance_accuracy == 1 / 4
    viewed = pretrain(pk.tasks.SimCLR(TinyBackbone()), images, batch_size=4, **run)
    assert viewed.history.settings["chance_accuracy"] is None
    labels = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])
    tuned = freeze_and_finetune(TinyBackbone(), "linear", (images, labels), **run)
    assert tuned.history.settings["chance_accuracy"] == pytest.approx(1 / 3)
