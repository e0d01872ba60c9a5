"""Any module given to a task (section 13)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import resnet18

import pretextkit as pk
from pretextkit.errors import OptionError, PretextkitError
from pretextkit.functional import linear_probe, pretrain, rotation_anomaly_score
from pretextkit.testing import TinyBackbone
from tests.helpers import random_images

IMAGES, LABELS = random_images(16, size=32), torch.arange(16) % 2
TASKS = [pk.tasks.SimCLR, pk.tasks.Rotation, pk.tasks.Autoencoder, pk.tasks.JigsawContext]


class NoWidth(pk.Backbone):
    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.normalization(images).flatten(1)
        return features


class WrongWidth(NoWidth):
    feature_dim = 99


class TextWidth(NoWidth):
    feature_dim = "3072"  # type: ignore[assignment]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(
    ("backbone", "text"),
    [
        (resnet18(), "a ResNet without feature_dim. Make it a backbone in one line: pretextkit.models.wrap(module)."),
        (nn.Sequential(nn.Flatten()), "pretextkit.models.wrap(module)"),
        (lambda images: images, "pretextkit.models.wrap(module) makes a backbone"),
        (None, "pretextkit.models.wrap(module) makes a backbone"),
        (NoWidth(), "a NoWidth without feature_dim. Set feature_dim to the number of features"),
        (TextWidth(), "with feature_dim='3072'"),
        (TinyBackbone, "the class TinyBackbone. Build it: TinyBackbone()."),
        ("resnet18", "the name 'resnet18'. Build it: pretextkit.backbones['resnet18']()."),
        (pk.tasks.Rotation(TinyBackbone()), "the task Rotation. Pass its backbone, task.backbone."),
    ],
)
def test_task_refuses_what_is_no_backbone(task: Any, backbone: Any, text: str) -> None:
    with pytest.raises(OptionError) as caught:
        task(backbone)
    assert str(caught.value).startswith("Expected a pretextkit.Backbone, but got ")
    assert text in str(caught.value)


def test_wrap_of_the_advice_trains_a_torchvision_network() -> None:
    backbone = pk.models.wrap(resnet18())
    pretrain(pk.tasks.SimCLR(backbone), IMAGES, steps=1, batch_size=8, device="cpu", progress=False)
    result = linear_probe(backbone, (IMAGES, LABELS), layers="last")
    assert result.layers["last"].feature_dim == 512


def test_module_with_feature_dim_is_a_backbone() -> None:
    class Mean(nn.Module):
        feature_dim = 3

        def forward(self, images: Tensor) -> Tensor:
            return images.mean((2, 3))

    pretrain(pk.tasks.Rotation(Mean()), IMAGES, steps=1, batch_size=8, device="cpu", progress=False)


def test_wrong_feature_dim_is_named_in_training() -> None:
    with pytest.raises(
        PretextkitError, match=r"features b 99 from WrongWidth, whose feature_dim is 99, .* \(2, 3072\)"
    ):
        pretrain(pk.tasks.SimCLR(WrongWidth()), IMAGES, steps=1, batch_size=8, device="cpu", progress=False)


@pytest.mark.parametrize("task", [TinyBackbone(), pk.tasks.SimCLR, "simclr", None, nn.Flatten()])
def test_pretrain_refuses_what_is_no_task(task: Any) -> None:
    with pytest.raises(OptionError, match="Expected a pretext task, but got"):
        pretrain(task, IMAGES, steps=1)


@pytest.mark.parametrize("task", [TinyBackbone(), pk.tasks.SimCLR(TinyBackbone())])
def test_rotation_score_refuses_other_modules(task: Any) -> None:
    with pytest.raises(OptionError, match="a Rotation task"):
        rotation_anomaly_score(task, IMAGES)
