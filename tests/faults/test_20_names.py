"""Fault 20: names that come out of a result go in again."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pretextkit.contracts import SpatialBackbone
from pretextkit.errors import DataWarning, UnknownNameError
from pretextkit.evaluation._stages import stage_modules
from pretextkit.functional import (
    extract_features,
    freeze_and_finetune,
    linear_probe,
    neighbor_anomaly_score,
    patch_anomaly_score,
    segmentation_probe,
)
from pretextkit.models import ResNet18, SmallCNN
from tests.helpers import random_images

IMAGES = random_images(20, size=64)  # the last map of the ImageNet stem is 2x2
LABELS = torch.arange(20) % 2
DATA = IMAGES, LABELS


class OwnStages(SpatialBackbone):
    """A backbone whose submodules are not called after its stages."""

    feature_dim = 8

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.Dropout(0.1))
        self.second = nn.Conv2d(4, 8, 3, 2, 1)
        self.scale = nn.Parameter(torch.ones(8, 1, 1))

    def stages(self, images: Tensor) -> tuple[Tensor, ...]:
        one = self.first(self.normalization(images))
        return one, self.second(one) * self.scale


BACKBONES: dict[str, Any] = {"small-cnn": SmallCNN, "resnet18": lambda: ResNet18(stem="imagenet"), "own": OwnStages}


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("options", [{}, {"layers": "all"}, {"pool": 2}, {"layers": "all", "pool": (1, 2)}])
@pytest.mark.filterwarnings("ignore:All .* test images are training images:pretextkit.errors.DataWarning")
def test_every_layer_of_a_probe_goes_in_again(name: str, options: Any) -> None:
    backbone = BACKBONES[name]()
    result = linear_probe(backbone, DATA, DATA, penalties=[1.0], **{"layers": "last", **options})
    features = extract_features(backbone, IMAGES, **options).layers
    assert list(features) == list(result.layers)
    same: Any = {"pool": 2} if options == {"pool": 2} else {}  # one side for all layers is not part of their names
    for layer in [result.layer, *list(result.layers)[-2:]]:
        again = extract_features(backbone, IMAGES, layers=[layer], **same).layers
        assert list(again) == [layer]
        assert torch.allclose(again[layer], features[layer], atol=1e-5)
    together = extract_features(backbone, IMAGES, layers=list(result.layers), **same).layers
    assert {key: value.shape for key, value in together.items()} == {key: v.shape for key, v in features.items()}
    assert list(linear_probe(backbone, DATA, DATA, layers=[result.layer], penalties=[1.0]).layers) == [result.layer]


def test_stages_go_with_submodules_and_the_output() -> None:
    backbone = ResNet18(stem="imagenet")
    features = extract_features(backbone, IMAGES, layers=["trunk.layer2", "stage2", "last", "stage1 2x2"]).layers
    assert list(features) == ["trunk.layer2", "stage2", "last", "stage1 2x2"]
    assert torch.allclose(features["trunk.layer2"], features["stage2"], atol=1e-6)
    assert features["stage1 2x2"].shape == (20, 256)


@pytest.mark.filterwarnings("ignore:All .* test images are training images:pretextkit.errors.DataWarning")
def test_names_of_functions_go_in_again() -> None:
    result = linear_probe(lambda images: images, DATA, DATA, pool=2, penalties=[1.0])
    assert extract_features(lambda images: images, IMAGES, layers=[result.layer], pool=2).layers[
        result.layer
    ].shape == (20, 12)


def test_unknown_stages_are_refused_with_a_list() -> None:
    with pytest.raises(UnknownNameError, match="Known: stage1, stage2, stage3, stage4"):
        extract_features(ResNet18(), IMAGES, layers=["stage9"])
    with pytest.raises(UnknownNameError, match="'stage4'"):
        extract_features(SmallCNN(), IMAGES, layers=["stage_4"])
    with pytest.raises(UnknownNameError, match="stage3"):
        freeze_and_finetune(ResNet18(), nn.Linear(512, 2), DATA, epochs=1, trainable=["stage9"], progress=False)


def test_other_functions_take_stages() -> None:
    backbone = ResNet18(stem="imagenet")
    masks = torch.zeros(20, 64, 64, dtype=torch.int64)
    masks[:, 32:] = 1
    found = segmentation_probe(backbone, (IMAGES, masks), (IMAGES, masks), layers=["stage1"], steps=1)
    assert found.layer == "stage1"
    assert patch_anomaly_score(backbone, IMAGES, IMAGES[:2], layers=["stage1", "stage2"]).maps is not None
    assert len(neighbor_anomaly_score(backbone, IMAGES, IMAGES[:2], layers=["stage2 2x2"]).scores) == 2


@pytest.mark.parametrize("name", BACKBONES)
def test_the_last_stage_alone_trains(name: str) -> None:
    backbone = BACKBONES[name]()
    last = list(extract_features(backbone, IMAGES[:1], layers="all").layers)[-1]
    stages = stage_modules(backbone, IMAGES)
    owned = {id(weight) for module in stages[last] for weight in module.parameters(recurse=name != "own")}
    before = {key: value.clone() for key, value in backbone.named_parameters()}
    modes = [weight.requires_grad for weight in backbone.parameters()]
    head = nn.Linear(backbone.feature_dim, 2)
    freeze_and_finetune(backbone, head, DATA, epochs=2, trainable=[last], device="cpu", progress=False)
    changed = {key for key, value in backbone.named_parameters() if not torch.equal(value, before[key])}
    assert changed
    if name != "own":
        assert changed <= {key for key, value in backbone.named_parameters() if id(value) in owned}
    assert [weight.requires_grad for weight in backbone.parameters()] == modes


def test_stages_of_resnet_are_its_layers_and_the_stem() -> None:
    backbone = ResNet18()
    trunk = backbone.trunk
    stages = stage_modules(backbone, IMAGES)
    assert stages == {
        "stage1": [trunk.conv1, trunk.bn1, trunk.layer1],
        "stage2": [trunk.layer2],
        "stage3": [trunk.layer3],
        "stage4": [trunk.layer4],
    }


@pytest.mark.parametrize("name", BACKBONES)
def test_sum_of_layers_goes_in_again(name: str) -> None:
    torch.manual_seed(0)
    backbone, test = BACKBONES[name](), (IMAGES.flip(0), DATA[1].flip(0))
    layer = "stage1 2x2 + stage2 1x1"
    with pytest.warns(DataWarning, match="All 20 test images are training images"):
        result = linear_probe(backbone, DATA, test, layers=[layer, "stage2"], penalties=[1.0])
    assert list(result.layers) == ["stage2", layer]
    features = extract_features(backbone, IMAGES, layers=[layer]).layers[layer]
    parts = extract_features(backbone, IMAGES, layers=["stage1 2x2", "stage2 1x1"]).layers
    assert torch.allclose(features, torch.cat(list(parts.values()), 1), atol=1e-5)
    assert result.layers[layer].feature_dim == features.shape[1]
