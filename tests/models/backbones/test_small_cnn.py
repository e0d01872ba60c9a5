from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from pretextkit.models import SmallCNN


def test_small_cnn_has_602656_parameters() -> None:
    assert sum(parameter.numel() for parameter in SmallCNN().parameters()) == 602_656


@pytest.mark.parametrize("in_channels", [1, 3])
@pytest.mark.parametrize(("height", "width"), [(28, 28), (32, 48), (33, 97)])
def test_stages_have_documented_shapes(in_channels: int, height: int, width: int) -> None:
    backbone = SmallCNN(in_channels=in_channels).eval()
    with torch.no_grad():
        stages = backbone.stages(torch.zeros(2, 3, height, width))
    sizes = [(math.ceil(height / 2**k), math.ceil(width / 2**k)) for k in (1, 1, 2, 3)]
    assert [tuple(stage.shape) for stage in stages] == [
        (2, channels, *size) for channels, size in zip((32, 64, 128, 256), sizes, strict=True)
    ]


def test_convolutions_are_normalized_and_rectified() -> None:
    kinds = [type(module) for module in SmallCNN().modules() if not list(module.children())]
    assert [kind for kind in kinds if kind in (nn.Conv2d, nn.BatchNorm2d, nn.ReLU)] == [
        nn.Conv2d,
        nn.BatchNorm2d,
        nn.ReLU,
    ] * 6
    assert min(stage.min() for stage in SmallCNN().stages(torch.rand(2, 3, 28, 28))) == 0


def test_features_average_the_last_map() -> None:
    backbone = SmallCNN().eval()
    with torch.no_grad():
        images = torch.linspace(0, 1, 2 * 3 * 30 * 30).view(2, 3, 30, 30)
        last = backbone.feature_map(images)
        expected = torch.stack([torch.stack([channel.mean() for channel in image]) for image in last])
        torch.testing.assert_close(backbone(images), expected)
        assert torch.equal(backbone.stages(images)[-1], last)
