from __future__ import annotations

import copy
import warnings
from typing import Any, get_args

import pytest
import torch
from torch import Generator, Tensor, nn
from torchvision.models import resnet18

from pretextkit.errors import OptionError, TrainingWarning
from pretextkit.models.backbones._resnet18 import ResNet18, Stem
from pretextkit.tasks import JigsawContext
from tests.helpers import random_images

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def some_images(height: int = 32, width: int = 32, channels: int = 3) -> Tensor:
    return random_images(2, channels=channels, size=(height, width))


def with_random_norms(network: nn.Module) -> nn.Module:
    """Randomize BatchNorm statistics and scales, to detect weights that are not copied."""
    generator = Generator().manual_seed(1)
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if "bn" in name or "downsample.1" in name:
                value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
    return network.eval()


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_parameter_count_matches_torchvision() -> None:
    torchvision_model = resnet18()
    assert parameters(ResNet18(stem="imagenet")) == parameters(torchvision_model) - parameters(torchvision_model.fc)
    fewer = 64 * 3 * (7 * 7 - 3 * 3)
    assert parameters(ResNet18()) == parameters(ResNet18(stem="imagenet")) - fewer == 11_168_832


@pytest.mark.parametrize(
    ("stem", "size", "sides"),
    [
        ("small", (28, 28), [(28, 28), (14, 14), (7, 7), (4, 4)]),
        ("small", (33, 40), [(33, 40), (17, 20), (9, 10), (5, 5)]),
        ("imagenet", (28, 28), [(7, 7), (4, 4), (2, 2), (1, 1)]),
        ("imagenet", (97, 64), [(25, 16), (13, 8), (7, 4), (4, 2)]),
    ],
)
@pytest.mark.parametrize("in_channels", [1, 3])
def test_stages_have_documented_shapes(
    stem: Stem, size: tuple[int, int], sides: list[tuple[int, int]], in_channels: int
) -> None:
    backbone = ResNet18(stem=stem, in_channels=in_channels).eval()
    with torch.no_grad():
        stages = backbone.stages(some_images(*size, channels=4 - in_channels))
    assert [tuple(stage.shape) for stage in stages] == [
        (2, channels, *side) for channels, side in zip((64, 128, 256, 512), sides, strict=True)
    ]


def test_weights_can_be_copied_to_torchvision() -> None:
    """Copy backbone weights to torchvision's model by the documented line; the classifier is kept."""
    backbone = with_random_norms(ResNet18(stem="imagenet"))
    assert isinstance(backbone, ResNet18)
    torchvision_model = resnet18()
    classifier = copy.deepcopy(torchvision_model.fc.state_dict())
    keys = torchvision_model.load_state_dict(backbone.trunk.state_dict(), strict=False)
    assert set(keys.missing_keys) == {"fc.weight", "fc.bias"}
    assert keys.unexpected_keys == []
    assert all(torch.equal(torchvision_model.fc.state_dict()[name], value) for name, value in classifier.items())
    torchvision_model.fc = nn.Identity()
    assert_same_features(backbone, torchvision_model.eval())


def test_weights_can_be_copied_from_torchvision() -> None:
    torchvision_model = with_random_norms(resnet18())
    backbone = ResNet18(stem="imagenet").eval()
    keys = backbone.trunk.load_state_dict(torchvision_model.state_dict(), strict=False)
    assert set(keys.unexpected_keys) == {"fc.weight", "fc.bias"}
    assert keys.missing_keys == []
    torchvision_model.fc = nn.Identity()
    assert_same_features(backbone, torchvision_model)


@pytest.mark.parametrize("in_channels", [1, 3])
def test_small_stem_weights_can_be_copied_to_torchvision(in_channels: int) -> None:
    backbone = with_random_norms(ResNet18(in_channels=in_channels))
    assert isinstance(backbone, ResNet18)
    torchvision_model = resnet18().eval()
    torchvision_model.conv1 = copy.deepcopy(backbone.trunk.conv1)
    torchvision_model.maxpool = nn.Identity()
    torchvision_model.load_state_dict(backbone.trunk.state_dict(), strict=False)
    torchvision_model.fc = nn.Identity()
    assert_same_features(backbone, torchvision_model)


def assert_same_features(backbone: Any, torchvision_model: Any) -> None:
    channels = backbone.normalization.channels
    mean, std = torch.tensor(MEAN)[:channels], torch.tensor(STD)[:channels]
    backbone.normalization.set(mean, std)
    images = some_images(64, 64, channels)
    normal = (images - mean.view(1, -1, 1, 1)) / std.view(1, -1, 1, 1)
    with torch.no_grad():
        expected = torchvision_model(normal)
        torch.testing.assert_close(backbone(images), expected, atol=1e-4, rtol=1e-4)
    assert expected.std() > 1e-3


@pytest.mark.parametrize("stem", get_args(Stem))
def test_stem_is_initialized_as_in_torchvision(stem: Stem) -> None:
    """Kaiming normal initialization with fan-out: a deviation of sqrt(2 / (64 k k))."""
    weight = ResNet18(stem=stem).trunk.conv1.weight.detach()
    expected = (2 / (64 * weight.shape[-1] ** 2)) ** 0.5
    assert weight.std().item() == pytest.approx(expected, rel=0.1)


def test_default_stem_warns_once_of_large_images() -> None:
    backbone = ResNet18().eval()
    with torch.no_grad():
        backbone(some_images(111, 300)[:1])  # warnings are errors here
        with pytest.warns(TrainingWarning) as caught:
            backbone(some_images(112, 120)[:1])
        backbone(some_images(112, 120)[:1])  # no second warning
    (warning,) = caught
    assert str(warning.message) == (
        "ResNet18 computes on images of 112x120 pixels with its default stem for small images, which is many times "
        'slower than the other. Build ResNet18(stem="imagenet"), or ResNet18(stem="small") to keep it. '
        "See https://pretextkit.github.io/pretextkit/how-to/troubleshooting.html#a-resnet-for-small-images."
    )


def test_warning_of_large_images_allows_strict_export() -> None:
    backbone, images = ResNet18().eval(), some_images(112, 112)[:1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of the exporter vary with the release of torch
        exported = torch.export.export(backbone, (images,), strict=True)
    assert exported.module()(images).shape == (1, 512)


@pytest.mark.parametrize("stem", get_args(Stem))
def test_explicit_stem_never_warns(stem: Stem) -> None:
    with torch.no_grad():
        ResNet18(stem=stem).eval()(some_images(112, 112)[:1])


def test_patches_of_large_images_never_warn() -> None:
    task = JigsawContext(ResNet18(), pairs=1)
    with torch.no_grad():
        assert task.step(some_images(128, 128), Generator().manual_seed(0)).loss.isfinite()


def test_default_stem_is_the_small_one() -> None:
    assert ResNet18().trunk.conv1.weight.shape == ResNet18(stem="small").trunk.conv1.weight.shape


@pytest.mark.parametrize("stem", ["large", "", 7])
def test_unknown_stems_are_refused(stem: Any) -> None:
    with pytest.raises(OptionError) as caught:
        ResNet18(stem=stem)
    assert caught.value.text == (
        f"Expected stem to be 'small', 'imagenet' or None, but got {stem!r}. "
        "Use 'small' for images up to about 96x96 pixels, 'imagenet' for larger ones."
    )
