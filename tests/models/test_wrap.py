"""Networks of torchvision and users as backbones."""

from __future__ import annotations

import copy
import pickle
import warnings
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

import pretextkit as pk
from pretextkit.errors import DataWarning, OptionError, PluginError, ShapeError, UnknownNameError
from pretextkit.models import WrappedBackbone, wrap
from pretextkit.models._start import is_trained
from tests.helpers import random_images


class Tutorial(nn.Module):
    """The network of torch's tutorial: a shared pooling, and a classifier that fits 32 pixels only."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.pool, self.conv2 = nn.Conv2d(3, 6, 5), nn.MaxPool2d(2, 2), nn.Conv2d(6, 16, 5)
        self.fc1, self.fc2 = nn.Linear(16 * 5 * 5, 20), nn.Linear(20, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(torch.relu(self.conv1(x)))
        x = self.pool(torch.relu(self.conv2(x)))
        x = self.fc2(torch.relu(self.fc1(torch.flatten(x, 1))))
        return x


def names(backbone: Any) -> list[str]:
    return [stage.name for stage in backbone.layout]


@pytest.fixture(scope="module")
def resnet() -> nn.Module:
    network: nn.Module = torchvision.models.resnet18()
    return network


def test_wrap_finds_last_layer_at_each_resolution(resnet: nn.Module) -> None:
    backbone = wrap(resnet)
    assert names(backbone) == ["relu", "layer1", "layer2", "layer3", "layer4"]
    assert backbone.feature_dim == 512


def test_stages_are_the_outputs_of_the_network_itself(resnet: Any) -> None:
    """A twin of the forward pass, layer by layer."""
    backbone, twin = wrap(resnet).eval(), copy.deepcopy(resnet).eval()
    images = random_images(2, size=(64, 48))
    with torch.no_grad():
        x = twin.maxpool(relu := twin.relu(twin.bn1(twin.conv1(backbone.normalization(images)))))
        expected = [relu]
        expected += [x := layer(x) for layer in (twin.layer1, twin.layer2, twin.layer3, twin.layer4)]
        assert all(map(torch.equal, backbone.stages(images), expected))
        assert torch.equal(backbone(images), x.mean((2, 3)))


def test_wrap_leaves_the_module_as_it_is(resnet: Any) -> None:
    before = {key: value.clone() for key, value in resnet.state_dict().items()}
    wrap(resnet)
    assert all(torch.equal(before[key], value) for key, value in resnet.state_dict().items())
    assert resnet.fc.out_features == 1000
    assert not any(module._forward_hooks for module in resnet.modules())


def test_classifier_has_no_weights_left(resnet: nn.Module) -> None:
    backbone = wrap(resnet)
    assert not [key for key in backbone.state_dict() if ".fc." in key]
    torch.autograd.backward(backbone(random_images(2)).sum())
    assert all(weight.grad is not None for weight in backbone.parameters())


def test_network_of_the_tutorial_takes_other_sizes_too() -> None:
    """What follows the last stage fits one size only, and does not run."""
    backbone = wrap(Tutorial())
    assert names(backbone) == ["conv1", "conv2"]
    assert [tuple(stage.shape[2:]) for stage in backbone.stages(random_images(2, size=(40, 48)))] == [
        (36, 44),
        (14, 18),
    ]


def test_named_stages_come_in_order_of_execution(resnet: nn.Module) -> None:
    assert names(wrap(resnet, stages=["layer3", "layer1"])) == ["layer1", "layer3"]
    assert wrap(resnet, stages=["layer3", "layer1"]).feature_dim == 256


def test_copies_have_hooks_of_their_own(resnet: nn.Module) -> None:
    backbone = wrap(resnet).eval()
    images = random_images(2)
    features = backbone(images)
    for twin in (copy.deepcopy(backbone), pickle.loads(pickle.dumps(backbone))):
        with torch.no_grad():
            twin.get_parameter("network.conv1.weight").zero_()
        assert not torch.equal(twin(images), features)
        assert torch.equal(backbone(images), features)


def test_tokens_become_maps_without_the_class_token() -> None:
    network = torchvision.models.VisionTransformer(32, 8, 6, 2, 24, 48)
    backbone = wrap(network).eval()
    assert isinstance(backbone, WrappedBackbone)
    assert [(stage.prefix, stage.patch) for stage in backbone.layout] == [(1, 8)] * 4
    images = random_images(2, size=(32, 32))
    with torch.no_grad():
        tokens: list[Tensor] = []
        backbone.get_submodule("network.encoder.ln").register_forward_hook(lambda m, i, o: tokens.append(o))
        last = backbone.feature_map(images)
    assert torch.equal(last[:, :, 1, 2], tokens[0][:, 1 + 1 * 4 + 2])


class Patches(nn.Module):
    """A transformer of users on patches of 8 pixels, without positions: it takes oblong images."""

    def __init__(self, depth: int = 4) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 24, 8, 8)
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(24, 2, 48, batch_first=True), depth)
        self.norm, self.head = nn.LayerNorm(24), nn.Linear(24, 10)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.patches(images).flatten(2).mT
        return self.head(self.norm(self.encoder(tokens)).mean(1))  # type: ignore[no-any-return]


@pytest.mark.parametrize(("depth", "chosen"), [(2, [0, 1]), (3, [0, 1, 2]), (4, [0, 1, 2, 3]), (8, [1, 3, 5, 7])])
def test_stages_of_a_transformer_are_its_blocks(depth: int, chosen: list[int]) -> None:
    """Also where a block has more norms and dropouts than the network has blocks."""
    own, library = Patches(depth), torchvision.models.VisionTransformer(32, 8, depth, 2, 24, 48)
    assert names(wrap(own)) == [*(f"encoder.layers.{each}" for each in chosen[:-1]), "norm"]
    assert names(wrap(library)) == [
        *(f"encoder.layers.encoder_layer_{each}" for each in chosen[:-1]),
        "encoder.ln",
    ]


class Local(nn.Module):
    """A block with a convolution between its tokens, as in XCiT."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.convolution = nn.LayerNorm(24), nn.Conv2d(24, 24, 3, padding=1)

    def forward(self, tokens: Tensor) -> Tensor:
        side = int(tokens.shape[1] ** 0.5)
        maps = self.convolution(self.norm(tokens).mT.unflatten(2, (side, side)))
        return tokens + maps.flatten(2).mT  # type: ignore[no-any-return]


def test_maps_inside_the_blocks_of_a_transformer_are_no_stages() -> None:
    network = Patches()
    network.encoder = nn.Sequential(*(Local() for _ in range(4)))  # type: ignore[assignment]
    assert names(wrap(network)) == ["encoder.0", "encoder.1", "encoder.2", "norm"]


def test_network_that_reads_its_unused_layers_keeps_them_frozen() -> None:
    """A list that the forward method runs through cannot be left out."""

    class Heads(Patches):
        def __init__(self) -> None:
            super().__init__()
            self.heads = nn.ModuleList([nn.Linear(24, 2), nn.Linear(24, 3)])

        def forward(self, images: Tensor) -> Tensor:
            features = self.norm(self.encoder(self.patches(images).flatten(2).mT)).mean(1)
            return torch.cat([head(features) for head in self.heads], 1)

    backbone = wrap(Heads())
    assert backbone(random_images(2, size=(32, 48))).shape == (2, 24)
    assert not any(weight.requires_grad for weight in backbone.get_submodule("network.heads").parameters())


def test_tokens_of_oblong_images_keep_their_place() -> None:
    backbone = wrap(Patches()).eval()
    tokens: list[Tensor] = []
    backbone.get_submodule("network.norm").register_forward_hook(lambda m, i, o: tokens.append(o))
    with torch.no_grad():
        last = backbone.feature_map(random_images(2, size=(32, 48)))
    assert last.shape == (2, 24, 4, 6)
    assert torch.equal(last[:, :, 1, 4], tokens[0][:, 1 * 6 + 4])


def test_maps_with_channels_last_keep_height_and_width() -> None:
    backbone = wrap(torchvision.models.SwinTransformer([4, 4], 24, [2, 2], [2, 2], [4, 4])).eval()
    maps: list[Tensor] = []
    backbone.get_submodule("network.features.1").register_forward_hook(lambda m, i, o: maps.append(o))
    with torch.no_grad():
        first = backbone.stages(random_images(2, size=(64, 96)))[0]
    assert first.shape == (2, 24, 16, 24)
    assert torch.equal(first[:, :, 3, 20], maps[0][:, 3, 20])


def test_frozen_weights_stay_frozen(resnet: Any) -> None:
    network = copy.deepcopy(resnet)
    network.layer1.requires_grad_(False)
    frozen = {name for name, weight in wrap(network).named_parameters() if not weight.requires_grad}
    assert frozen == {f"network.layer1.{name}" for name, _ in network.layer1.named_parameters()}


def test_oblong_image_with_one_short_side_is_refused() -> None:
    backbone = wrap(Tutorial())
    side = backbone.smallest_image
    assert backbone(random_images(2, size=(side, 40))).shape == (2, 16)
    for size in ((side - 1, 40), (40, side - 1)):
        with pytest.raises(ShapeError, match=f"at least {side}x{side} pixels"):
            backbone(random_images(2, size=size))


def test_image_of_another_size_than_the_network_takes_is_refused() -> None:
    backbone = wrap(torchvision.models.VisionTransformer(32, 8, 4, 2, 24, 48))
    with pytest.raises(ShapeError, match="images of 32x32 pixels, the only size that VisionTransformer takes"):
        backbone(random_images(2, size=(40, 40)))


class OneSize(nn.Module):
    """A network for 96 pixels, which adds a grid of positions; an image of one patch is broadcast to it."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Conv2d(3, 8, 3, padding=1)
        self.positions = nn.Parameter(torch.randn(1, 3, 6, 6))

    def forward(self, x: Tensor) -> Tensor:
        return self.block(nn.functional.avg_pool2d(x, 16) + self.positions)  # type: ignore[no-any-return]


def test_size_that_the_network_states_comes_before_one_that_broadcasts() -> None:
    network: Any = OneSize()
    network.pretrained_cfg = {"input_size": (3, 96, 96), "fixed_input_size": True}
    assert wrap(network).eval()(random_images(2, size=96)).shape == (2, 8)
    network.pretrained_cfg["fixed_input_size"] = False
    assert wrap(network).smallest_image == 28  # as without a statement


def test_patches_below_the_smallest_image_are_refused_with_the_size_that_works() -> None:
    backbone = wrap(torchvision.models.vgg11(), size=64)
    with pytest.raises(ShapeError, match=r"smallest that VGG takes.*at least 120 pixels a side") as caught:
        pk.tasks.JigsawContext(backbone).step(random_images(1, size=(64, 64)), torch.Generator())
    assert "16x16" in str(caught.value)


@pytest.mark.parametrize(
    ("module", "text"),
    [
        (torchvision.models.resnet18, "Pass a network such as"),
        ("resnet18", "pretextkit.backbones['resnet18']"),
        (nn.Conv2d, "Build it: Conv2d()."),
        (pk.models.SmallCNN(), "It needs no wrapping"),
        (nn.Linear(3, 4), "Pass size="),
    ],
)
def test_what_is_no_network_of_images_is_refused(module: Any, text: str) -> None:
    with pytest.raises(OptionError) as caught:
        wrap(module)
    assert text in str(caught.value)


def test_unknown_stage_suggests_the_nearest(resnet: nn.Module) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'layer4'"):
        wrap(resnet, stages=["layer5"])
    with pytest.raises(OptionError, match="a list of at least one layer's name"):
        wrap(resnet, stages="layer4")


def trained(network: nn.Module) -> nn.Module:
    network = copy.deepcopy(network)
    network(torch.rand(4, 3, 64, 64))  # BatchNorm learns
    return network


def test_normalization_comes_from_the_weights(resnet: nn.Module) -> None:
    weights = torchvision.models.ResNet18_Weights.IMAGENET1K_V1
    backbone = wrap(trained(resnet), weights=weights)
    assert backbone.normalization.mean.tolist() == pytest.approx([0.485, 0.456, 0.406])
    assert backbone.normalization.std.tolist() == pytest.approx([0.229, 0.224, 0.225])
    assert backbone.starts_from == "torchvision ResNet18 IMAGENET1K_V1, trained on ImageNet labels"
    assert bool(backbone.normalization.measured)


def test_trained_weights_of_unknown_normalization_warn(resnet: nn.Module) -> None:
    with pytest.warns(DataWarning, match="normalization of their training is unknown"):
        wrap(trained(resnet))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        wrap(resnet)
        backbone = wrap(trained(resnet), normalization=((0,), (1,)))
    assert backbone.normalization.std.tolist() == [1, 1, 1]


@pytest.mark.parametrize("name", ["resnet18", "convnext_tiny", "swin_t"])
def test_new_networks_do_not_look_trained(name: str) -> None:
    assert not is_trained(torchvision.models.get_model(name))


def test_name_of_torchvision_builds_backbone() -> None:
    cls = pk.backbones["torchvision/mobilenet_v3_small"]
    assert "torchvision/mobilenet_v3_small" in pk.backbones
    assert "torchvision/mobilenet_v3_small" not in list(pk.backbones)
    backbone = cls(in_channels=1)
    assert backbone.normalization.channels == 1
    assert backbone.starts_from == "random weights"
    assert backbone(random_images(2)).shape == (2, 576)
    assert backbone.built_by is not None
    name, options = backbone.built_by
    again = pk.backbones.create(name, **options)
    again.load_state_dict(backbone.state_dict())


def test_wrong_name_gives_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'torchvision/resnet18'"):
        pk.backbones["torchvision/resnet-18"]
    assert "torchvision/resnet-18" not in pk.backbones


def test_missing_timm_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(PluginError, match=r'pip install "pretextkit\[timm\]"'):
        pk.backbones["timm/missing"]


def test_unknown_weights_and_options_are_refused() -> None:
    cls = pk.backbones["torchvision/resnet18"]
    with pytest.raises(OptionError, match="Known: DEFAULT, IMAGENET1K_V1"):
        cls(weights="imagenet")
    with pytest.raises(OptionError, match="gray images are repeated"):
        cls(weights="DEFAULT", in_channels=1)
    with pytest.raises(OptionError, match="deepth"):
        cls(deepth=3)


class Pyramid(nn.Module):
    """Transformer whose last blocks compute on fewer tokens, as that of PiT."""

    def __init__(self, last: int) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 16, 8, 8)
        self.first = nn.ModuleList(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True) for _ in range(4))
        self.second = nn.ModuleList(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True) for _ in range(last))
        self.head = nn.Linear(16, 1000)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.embed(images).flatten(2).transpose(1, 2)
        for block in self.first:
            tokens = block(tokens)
        tokens = tokens[:, ::4]
        for block in self.second:
            tokens = block(tokens)
        scores: Tensor = self.head(tokens.mean(1))
        return scores


class Unet(nn.Module):
    """Encoder, and a decoder of far more weights."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList([nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 16, 3, 2, 1)])
        self.up = nn.ModuleList([nn.ConvTranspose2d(16, 64, 2, 2), nn.ConvTranspose2d(64, 64, 2, 2)])

    def forward(self, images: Tensor) -> Tensor:
        for layer in (*self.down, *self.up):
            images = layer(images)
        return images


def test_stages_that_leave_out_most_of_a_network_are_refused() -> None:
    wanted = (
        r"Expected the stages of Pyramid to use all its layers but the classifier, but got stages that need none of "
        r"'second' and others, 36% of the weights. Name layers .*stages=\[...\]"
    )
    with pytest.raises(OptionError, match=wanted):
        wrap(Pyramid(3))
    named = wrap(Pyramid(3), stages=["first.3", "second.2"])
    assert [stage.shape[1:] for stage in named.stages(random_images(2, size=64))] == [(16, 8, 8), (16, 4, 4)]
    assert wrap(Pyramid(0)).feature_dim == 16  # a classifier is left out


def test_decoder_may_be_left_out() -> None:
    assert names(wrap(Unet())) == ["down.0", "down.1"]


class Uneven(nn.Module):
    """Tokens of patches that reach over the border."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 8, 8, 8, padding=4)
        self.blocks = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.embed(images).flatten(2).transpose(1, 2)
        scores: Tensor = self.blocks(tokens)
        return scores.mean(1)


def test_tokens_without_a_grid_are_refused() -> None:
    with pytest.raises(
        OptionError, match=r"layers of Uneven that return maps .* but got 'blocks.0', 'blocks.1', which"
    ):
        wrap(Uneven())
