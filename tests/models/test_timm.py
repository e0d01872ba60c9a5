"""Networks of timm as backbones."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import pretextkit as pk
from pretextkit.errors import OptionError, ShapeError, UnknownNameError
from pretextkit.models import wrap
from tests.helpers import random_images

timm = pytest.importorskip("timm")
SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 4, "num_heads": 2}


ANY_SIZE = {"dynamic_img_size": True, "dynamic_img_pad": True}


@pytest.mark.parametrize(
    ("options", "prefix"), [({}, 1), ({"reg_tokens": 4}, 5), ({"class_token": False, "global_pool": "avg"}, 0)]
)
def test_vision_transformer_computes_on_tokens(options: dict[str, Any], prefix: int) -> None:
    """Class and register tokens stay inside; with average pooling, timm's last norm comes after its tokens."""
    network = timm.models.VisionTransformer(**ANY_SIZE, **SMALL, **options)
    backbone = wrap(network).eval()
    assert isinstance(backbone, pk.TokenBackbone)
    images = random_images(2, size=(36, 48))
    with torch.no_grad():
        features = network.eval().forward_features(backbone.normalization(images))
        expected = network.fc_norm(features[:, prefix:])
        torch.testing.assert_close(backbone.encode(backbone.tokens(images)), expected)
        assert backbone.feature_map(images).shape == (2, 24, 5, 6)
        assert backbone.encode(backbone.tokens(images)[:, ::3]).shape == (2, 10, 24)


def test_vision_transformer_of_one_size_says_how_to_open_it() -> None:
    backbone = wrap(timm.models.VisionTransformer(**SMALL))
    assert backbone.smallest_image == 32
    with pytest.raises(ShapeError, match=r"the only size .* dynamic_img_size=True, dynamic_img_pad=True"):
        backbone(random_images(2, size=(48, 48)))


@pytest.mark.parametrize("class_token", [True, False])
def test_vision_transformer_of_one_oblong_size_takes_that_size(class_token: bool) -> None:
    options = {**SMALL, "img_size": (32, 48), "class_token": class_token, "global_pool": "avg"}
    backbone = wrap(timm.models.VisionTransformer(**options)).eval()
    assert [tuple(stage.shape) for stage in backbone.stages(random_images(2, size=(32, 48)))] == [(2, 24, 4, 6)] * 4
    with pytest.raises(ShapeError, match=r"images of 32x48 pixels, the only size .* but got 32x32"):
        backbone(random_images(2, size=(32, 32)))


def test_oblong_patches_are_refused() -> None:
    """They would be read as square ones, and mix the features of different places."""
    network = timm.models.VisionTransformer(**{**SMALL, "patch_size": (8, 16)})
    with pytest.raises(OptionError, match="square patches, but got patches of 8x16 pixels"):
        wrap(network)


def test_wrong_name_gives_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="'timm/convnext_atto'"):
        pk.backbones["timm/convnext-atto"]


def test_pretrained_weights_say_what_they_start_from() -> None:
    network = timm.create_model("resnet18")
    network(torch.rand(4, 3, 64, 64))  # BatchNorm learns: the network looks trained
    backbone = wrap(network)
    assert backbone.starts_from == "timm resnet18.a1_in1k, trained on ImageNet labels"
    assert backbone.normalization.mean.tolist() == pytest.approx([0.485, 0.456, 0.406])
    assert backbone.normalization.std.tolist() == pytest.approx([0.229, 0.224, 0.225])


def test_weights_for_color_leave_other_channels_to_be_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """timm repeats the first convolution for five bands, whose mean and std no weights know."""
    network = timm.create_model("resnet18", in_chans=5)
    network(torch.rand(4, 5, 64, 64))
    monkeypatch.setattr(timm, "create_model", lambda *_, **__: network)
    backbone = pk.backbones.create("timm/resnet18", weights="a1_in1k", in_channels=5)
    assert backbone.starts_from == "timm resnet18.a1_in1k, trained on ImageNet labels"
    images = torch.rand(16, 5, 64, 64) / 2
    task = pk.tasks.Rotation(backbone)
    pk.functional.pretrain(task, images, epochs=1, batch_size=8, progress=False)
    assert backbone.normalization.mean.tolist() == pytest.approx(images.mean((0, 2, 3)).tolist(), abs=1e-3)


@pytest.mark.parametrize(("channels", "numbers"), [(5, 3), (3, 4), (3, 2), (1, 2)])
def test_normalization_of_other_channels_is_refused(channels: int, numbers: int) -> None:
    network = timm.create_model("resnet18", in_chans=channels)
    with pytest.raises(OptionError, match=rf"normalization with {channels} numbers.*got {numbers}"):
        wrap(network, normalization=([0.5] * numbers, [0.25] * numbers))


def test_tag_in_a_name_loads_no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the option ``weights`` does, because a start from labels has to be asked for."""
    asked: list[tuple[str, bool]] = []
    create = timm.create_model

    def record(name: str, *, pretrained: bool, **options: Any) -> Any:
        asked.append((name, pretrained))
        return create(name, pretrained=False, **options)

    monkeypatch.setattr(timm, "create_model", record)
    assert pk.backbones.create("timm/resnet18.a1_in1k").starts_from == "random weights"
    assert {pretrained for _, pretrained in asked} == {False}
    asked.clear()
    backbone = pk.backbones.create("timm/resnet18", weights="a1_in1k")
    assert backbone.starts_from == "timm resnet18.a1_in1k, trained on ImageNet labels"
    assert set(asked) == {("resnet18.a1_in1k", True)}
