"""Networks of timm as backbones."""

from __future__ import annotations

import pytest
import torch

import pretextkit as pk
from pretextkit.errors import ShapeError, UnknownNameError
from pretextkit.models import wrap
from tests.helpers import random_images

timm = pytest.importorskip("timm")
SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 4, "num_heads": 2}


def test_vision_transformer_computes_on_tokens() -> None:
    network = timm.models.VisionTransformer(dynamic_img_size=True, dynamic_img_pad=True, **SMALL)
    backbone = wrap(network).eval()
    assert isinstance(backbone, pk.TokenBackbone)
    images = random_images(2, size=(36, 48))
    with torch.no_grad():
        expected = network.eval().forward_features(backbone.normalization(images))[:, 1:]
        torch.testing.assert_close(backbone.encode(backbone.tokens(images)), expected)
        assert backbone.feature_map(images).shape == (2, 24, 5, 6)
        assert backbone.encode(backbone.tokens(images)[:, ::3]).shape == (2, 10, 24)


def test_vision_transformer_of_one_size_says_how_to_open_it() -> None:
    backbone = wrap(timm.models.VisionTransformer(**SMALL))
    assert backbone.smallest_image == 32
    with pytest.raises(ShapeError, match=r"the only size .* dynamic_img_size=True, dynamic_img_pad=True"):
        backbone(random_images(2, size=(48, 48)))


def test_wrong_name_gives_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="'timm/convnext_atto'"):
        pk.backbones["timm/convnext-atto"]


def test_pretrained_weights_say_what_they_start_from() -> None:
    network = timm.create_model("resnet18")
    network(torch.rand(4, 3, 64, 64))  # BatchNorm learns: the network looks trained
    backbone = wrap(network)
    assert backbone.starts_from == "timm resnet18.a1_in1k, trained on ImageNet labels"
    assert backbone.normalization.mean.tolist() == pytest.approx([0.485, 0.456, 0.406])
