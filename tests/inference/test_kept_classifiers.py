"""Classifiers of results: copies of what was trained, and files that say what is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import pretextkit as pk
from pretextkit.errors import CheckpointError, OptionError
from pretextkit.functional import Classifier
from pretextkit.inference._archive import read_archive, write_archive
from pretextkit.models import LinearHead, SmallCNN
from pretextkit.testing import TinyBackbone


def test_classifier_of_a_result_outlives_the_training_of_its_backbone() -> None:
    """A kept classifier must not change with the backbone: nothing would tell."""
    images, labels = torch.rand(12, 3, 16, 16), torch.arange(12) % 2
    backbone = TinyBackbone()
    options: dict[str, Any] = {"device": "cpu", "progress": False}
    probe = pk.functional.linear_probe(backbone, (images, labels)).classifier
    before = probe.predict_proba(images)
    tuned = pk.functional.freeze_and_finetune(backbone, "linear", (images, labels), steps=3, **options).classifier
    after = tuned.predict_proba(images)
    pk.functional.pretrain(pk.tasks.Rotation(backbone), images, steps=2, batch_size=4, **options)
    assert torch.equal(probe.predict_proba(images), before)
    assert torch.equal(tuned.predict_proba(images), after)


@pytest.mark.parametrize("call", ["linear_probe", "knn_probe", "extract_features", "freeze_and_finetune"])
def test_task_in_place_of_a_backbone_is_refused(call: str) -> None:
    data = (torch.rand(4, 3, 16, 16), torch.arange(4) % 2)
    head = ("linear",) if call == "freeze_and_finetune" else ()
    for task in (pk.tasks.Rotation(TinyBackbone()), pk.tasks.SimCLR(TinyBackbone())):
        with pytest.raises(OptionError, match=f"got the task {type(task).__name__}. Pass its backbone, task.backbone"):
            getattr(pk.functional, call)(task, *head, data)
        with pytest.raises(OptionError, match=r"task\.backbone"):
            pk.save_backbone(task, "never.pt")


@pytest.mark.parametrize("name", ["birds.onnx", "birds.json", "folder"])
def test_path_that_is_no_file_of_torch_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(OptionError, match=r"For example|the page on export"):
        Classifier(SmallCNN(), LinearHead(256, 2)).save(tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder"]


@pytest.mark.parametrize("change", [{"head": ...}, {"images": 3}, {"layers": [1]}, {"kind": ...}])
def test_forged_header_is_refused(change: dict[str, Any], tmp_path: Path) -> None:
    """The checksum fits: another program wrote the file."""
    path = tmp_path / "birds.pt"
    Classifier(SmallCNN(), LinearHead(256, 2)).save(path)
    tensors, header = read_archive(path)
    header = {name: value for name, value in {**header, **change}.items() if value is not ...}
    write_archive(path, tensors, json.loads(json.dumps(header)))
    with pytest.raises(CheckpointError):
        pk.load_classifier(path)


def test_file_from_elsewhere_is_not_called_damaged(tmp_path: Path) -> None:
    path = tmp_path / "notes.pt"
    path.write_text("epoch 3, loss 0.2")
    with pytest.raises(CheckpointError, match=r"got a file from elsewhere\. Pass a file that save wrote"):
        pk.load_classifier(path)


class Hooked(torch.nn.Module):
    """A network whose hook is a function that holds the network: a copy would call the hook of the original."""

    def __init__(self) -> None:
        super().__init__()
        self.found = torch.empty(0)
        self.layers = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, 2), torch.nn.ReLU(), torch.nn.Conv2d(8, 16, 3, 2))
        self.layers[2].register_forward_hook(lambda module, inputs, output: setattr(self, "found", output))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.layers(images)
        return self.found.mean((2, 3))


def test_network_with_a_hook_that_holds_it_predicts_each_image_anew() -> None:
    images, labels = torch.rand(24, 3, 16, 16), torch.arange(24) % 2
    images[labels == 1] *= 0.3
    classifier = pk.functional.linear_probe(Hooked(), (images, labels)).classifier
    flipped = classifier.predict_proba(images.flip(0))
    assert torch.allclose(classifier.predict_proba(images), flipped.flip(0), atol=1e-5)
    assert not torch.equal(classifier.predict_proba(images), flipped)
    assert classifier.predict_proba(images[:5]).shape == (5, 2)


@pytest.mark.parametrize("change", [{"backbone": 5}, {"trained": 3}, {"kind": ...}])
def test_forged_header_of_a_backbone_is_refused(change: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "backbone.pt"
    pk.save_backbone(SmallCNN(), path)
    tensors, header = read_archive(path)
    header = {name: value for name, value in {**header, **change}.items() if value is not ...}
    write_archive(path, tensors, json.loads(json.dumps(header)))
    with pytest.raises(CheckpointError):
        pk.load_backbone(path)
