from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pretextkit.errors import DataError, OptionError, ShapeError, UnknownNameError
from pretextkit.evaluation._segmentation_heads import PixelHead, fit_map_head, sampled_at, upsampled
from pretextkit.functional import (
    ConvMapHead,
    LinearMapHead,
    SegmentationScore,
    segmentation_probe,
)
from pretextkit.models import SmallCNN

CLASSES = 3


def scenes(count: int = 10, size: tuple[int, int] = (12, 16), seed: int = 0) -> tuple[Tensor, Tensor]:
    """Images whose gray levels encode the class of each pixel: three vertical bands of random widths."""
    generator = torch.Generator().manual_seed(seed)
    edges = torch.randint(3, size[1] - 3, (count, 2), generator=generator).sort(1).values
    columns = torch.arange(size[1])
    bands = (columns >= edges[:, :1]).long() + (columns >= edges[:, 1:]).long()
    masks = bands[:, None].expand(count, *size).contiguous()
    return (masks[:, None] / 2).float(), masks


@pytest.mark.parametrize("size", [(12, 16), (13, 9), (3, 4), (2, 3)])
def test_sampled_logits_equal_upsampled_logits(size: tuple[int, int]) -> None:
    logits = torch.randn(2, 5, 3, 4, generator=torch.Generator().manual_seed(0))
    y, x = (part.flatten().expand(2, -1) for part in torch.meshgrid(*map(torch.arange, size), indexing="ij"))
    full = upsampled(logits, size).flatten(2)
    torch.testing.assert_close(sampled_at(logits, y, x, size), full)


class OneByOne(PixelHead):
    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.conv = nn.Conv2d(3, 2, 1)
        self.places: set[int] = set()

    def forward(self, maps: Tensor) -> Tensor:
        self.places.add(maps.shape[2:].numel())
        logits: Tensor = self.conv(maps)
        return logits


def test_pixel_head_on_samples_equals_fit_on_full_maps() -> None:
    generator = torch.Generator().manual_seed(0)
    maps, masks = torch.randn(4, 3, 9, 11, generator=generator), torch.randint(2, (4, 20, 23), generator=generator)
    options = {"learning_rate": 0.1, "steps": 20, "batch_size": 2, "pixels": 30, "ignore_index": 255, "seed": 0}
    sparse, full = OneByOne(0), OneByOne(0)
    start = full.conv.weight.clone()
    fit_map_head(sparse, maps, masks, **options)  # type: ignore[arg-type]
    fit_map_head(nn.Sequential(full), maps, masks, **options)  # type: ignore[arg-type]
    torch.testing.assert_close(sparse.conv.weight, full.conv.weight, rtol=1e-3, atol=1e-4)
    assert not torch.allclose(start, full.conv.weight, atol=0.1)
    assert (sparse.places, full.places) == ({30}, {99})  # samples against full maps


def test_linear_head_on_large_maps_standardizes_by_samples() -> None:
    """Statistics of samples approximate those of smooth maps."""
    maps = 5 + 3 * torch.randn(8, 2, 20, 20, generator=torch.Generator().manual_seed(0))
    maps = maps.cumsum(3) / 20  # smooth: interpolated values resemble their neighbors
    masks = (upsampled(maps, (50, 60))[:, 0] > maps[:, 0].mean()).long()
    head = LinearMapHead(2, 2)
    options = {"learning_rate": 0.1, "steps": 300, "batch_size": 8, "pixels": 100, "ignore_index": 255, "seed": 0}
    fit_map_head(head, maps, masks, **options)  # type: ignore[arg-type]
    found, exact = head.standardize, maps.transpose(0, 1).flatten(1)
    torch.testing.assert_close(found.running_mean, exact.mean(1), rtol=0.02, atol=0)
    torch.testing.assert_close(found.running_var, exact.var(1), rtol=0.1, atol=0)
    assert (upsampled(head(maps), (50, 60)).argmax(1) == masks).float().mean() > 0.97


def test_one_pixel_of_one_image_is_enough_for_a_step() -> None:
    images, masks = scenes()
    options: dict[str, Any] = {"batch_size": 1, "pixels": 1, "steps": 2}
    assert 0 <= segmentation_probe(nn.Identity(), (images, masks), (images, masks), **options).miou <= 1


@pytest.mark.parametrize("head", [LinearMapHead, ConvMapHead])
def test_maps_equal_to_masks_give_perfect_miou(head: Any) -> None:
    test = scenes(4, seed=1)
    truth = nn.functional.one_hot(test[1], CLASSES)

    class Truth(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return nn.functional.one_hot((2 * images[:, 0]).round().long(), CLASSES).permute(0, 3, 1, 2).float()

    result = segmentation_probe(Truth(), scenes(), test, head=head, steps=40, pixels=256)
    assert (result.miou, result.pixel_accuracy, result.class_iou) == (1.0, 1.0, (1.0, 1.0, 1.0))
    assert torch.equal(result.predictions, test[1])
    assert torch.equal(nn.functional.one_hot(result.predictions, CLASSES), truth)


def test_uninformative_maps_predict_the_most_common_class() -> None:
    images, masks = scenes(10)
    masks = torch.where(masks == 2, 0, masks)
    result = segmentation_probe(
        lambda images: torch.ones(len(images), 2, 3, 4), (images, masks), (images, masks), steps=40
    )
    assert torch.unique(result.predictions).tolist() == [int(masks.float().mean() > 0.5)]


def test_layer_choice_does_not_depend_on_test() -> None:
    torch.manual_seed(0)
    backbone = SmallCNN(in_channels=1).train()
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    train, test = scenes(10, (32, 48)), scenes(3, (32, 48), seed=1)
    result = segmentation_probe(backbone, train, test, layers="all", steps=4, learning_rates=(1e-2,), pixels=64)
    assert list(result.layers) == ["stage1", "stage2", "stage3", "stage4"]
    assert result.layers[result.layer].validation == max(score.validation for score in result.layers.values())
    assert result.predictions.shape == test[1].shape
    assert str(result).startswith(f"segmentation probe: mIoU {result.miou:.1%}, pixel accuracy ")
    assert backbone.training
    assert all(parameter.requires_grad for parameter in backbone.parameters())
    for name, value in backbone.state_dict().items():
        assert torch.equal(value, before[name]), name
    swapped = segmentation_probe(
        backbone, train, (test[0], 2 - test[1]), layers="all", steps=4, learning_rates=(1e-2,), pixels=64
    )
    assert {name: score.validation for name, score in swapped.layers.items()} == {
        name: score.validation for name, score in result.layers.items()
    }
    assert torch.equal(swapped.predictions, result.predictions)


class Channel(nn.Module):
    """One channel of the images."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def forward(self, images: Tensor) -> Tensor:
        return images[:, [self.number]]


class TwoChannels(nn.Module):
    """Two layers that each see one channel."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = Channel(0), Channel(1)

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat([self.first(images), self.second(images)], 1)


def test_chosen_layer_is_best_on_validation_not_on_test() -> None:
    """Both channels equal the masks in train, only the first in validation, only the second in test."""

    def two(first: bool, second: bool) -> tuple[Tensor, Tensor]:
        masks = scenes()[1].clamp(max=1)
        return torch.stack([masks * first, masks * second, masks * 0], 1).float(), masks

    result = segmentation_probe(
        TwoChannels(),
        two(True, True),
        two(False, True),
        validation=two(True, False),
        layers=["first", "second"],
        steps=30,
        pixels=64,
        learning_rates=(1e-1,),
    )
    assert result.layer == "first"
    assert result.layers["first"].miou == result.miou < 0.6
    assert result.layers["second"].miou == 1.0


def test_chosen_rate_is_best_on_heldout_images() -> None:
    def probe(*rates: float) -> SegmentationScore:
        data, options = (scenes(), scenes(3)), {"steps": 20, "pixels": 32}
        return segmentation_probe(nn.Identity(), *data, learning_rates=rates, **options).layers["last"]  # type: ignore[arg-type]

    alone = [probe(1e-3), probe(1.0)]
    best = max(alone, key=lambda score: score.validation)
    assert alone[0].validation != alone[1].validation
    assert probe(1e-3, 1.0) == best


def test_final_head_is_fitted_to_all_of_train(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []

    def fit(head: nn.Module, maps: Tensor, masks: Tensor, **options: Any) -> None:
        assert torch.equal(maps[:, 0], masks / 2)  # each image with its own mask
        seen.append(maps)

    monkeypatch.setattr("pretextkit.evaluation._map_probe.fit_map_head", fit)
    segmentation_probe(nn.Identity(), scenes(10), scenes(3), learning_rates=(1e-2, 1e-1))
    segmentation_probe(nn.Identity(), scenes(10), scenes(3), validation=scenes(2), learning_rates=(1e-2,))
    assert [len(maps) for maps in seen] == [8, 8, 10, 10, 10]
    assert not torch.equal(seen[0], scenes(10)[0][2:])  # a random fifth is held out, because images may be sorted


def test_layers_by_name_and_bfloat16_storage_are_accepted() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.AvgPool2d(2), nn.Flatten())
    train, test = scenes(), scenes(3, seed=1)
    result = segmentation_probe(model, train, test, layers=["1"], steps=10, storage=torch.bfloat16)
    assert (result.layer, result.layers["1"].feature_dim) == ("1", 4)
    with pytest.raises(ShapeError, match=r"maps b d h w from layer 'last', but got shape \(1, 192\)"):
        segmentation_probe(nn.Sequential(nn.Conv2d(1, 1, 1), nn.Flatten()), train, test)
    with pytest.raises(UnknownNameError, match="a layer of Sequential, but got 'one'"):
        segmentation_probe(model, train, test, layers=["one"])


def test_result_does_not_depend_on_ignore_index() -> None:
    images, masks = scenes()
    holes = torch.rand(masks.shape, generator=torch.Generator().manual_seed(3)) < 0.3
    results = [
        segmentation_probe(
            nn.Identity(),
            *2 * [(images, torch.where(holes, code, masks))],
            ignore_index=code,
            steps=20,
        )
        for code in (255, -1, 3)
    ]
    for result in results[1:]:
        assert torch.equal(result.predictions, results[0].predictions)
        assert (result.miou, result.class_iou) == (results[0].miou, results[0].class_iou)


def test_ignored_pixels_have_no_gradient() -> None:
    maps, masks = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0)), torch.full((2, 8, 8), 255)
    head = nn.Conv2d(3, 2, 1)
    assert head.bias is not None
    before = head.bias.detach().clone()
    options: dict[str, Any] = {"learning_rate": 0.1, "steps": 5, "batch_size": 2, "pixels": 9, "seed": 0}
    fit_map_head(head, maps, masks, ignore_index=255, **options)
    assert torch.equal(head.bias, before)
    fit_map_head(head, maps, masks.fill_(1), ignore_index=255, **options)
    assert head.bias[1] > head.bias[0]


def test_probe_is_deterministic_and_keeps_global_rng() -> None:
    state = torch.get_rng_state()
    first, second = (segmentation_probe(nn.Identity(), scenes(), scenes(3), steps=5) for _ in range(2))
    assert torch.equal(first.predictions, second.predictions)
    assert torch.equal(first.head(scenes(3)[0]), second.head(scenes(3)[0]))  # in evaluation mode: nothing moves
    assert not any(module.training for module in first.head.modules())
    assert torch.equal(torch.get_rng_state(), state)
    other = segmentation_probe(nn.Identity(), scenes(), scenes(3), steps=5, seed=1)
    assert not torch.equal(next(other.head.parameters()), next(first.head.parameters()))


def test_validation_replaces_the_split_of_train() -> None:
    images, masks = scenes()
    train = images[:4], masks[:4]  # too few to split
    with pytest.raises(DataError, match=r"at least 5 training images, to hold out a fifth, but got 4\. Pass v"):
        segmentation_probe(nn.Identity(), train, scenes(3))
    assert (
        segmentation_probe(nn.Identity(), train, scenes(3), validation=scenes(2, seed=2), steps=200, pixels=64).miou
        > 0.5
    )


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        (
            {"train": scenes()[0]},
            DataError,
            r"a pair \(images, masks\) for train, but got Tensor\. Pass a pair of tensors",
        ),
        ({"test": (scenes()[0], scenes()[0])}, DataError, r"masks of integers for test, but got torch\.float32"),
        (
            {"test": (scenes()[0], scenes()[1][:, :5])},
            ShapeError,
            r"test masks n h w for images of \(10, 1, 12, 16\), but got shape \(10, 5, 16\)\. Give every pixel",
        ),
        ({"train": (scenes()[0], scenes()[1] * 0)}, DataError, r"at least 2 classes in .*, but got class 0 only"),
        ({"train": (scenes()[0], scenes()[1] * 0 + 255)}, DataError, r"but got pixels that are all ignored\. Check"),
        (
            {"test": (scenes()[0], scenes()[1] + 1)},
            DataError,
            r"test masks of classes 0 to 2, the classes of train, or 255 \(ignored\), but got class 3\. Set",
        ),
        ({"train": (scenes()[0], scenes()[1] - 1)}, DataError, r"train masks of classes 0 to 1, .* but got class -1"),
        ({"learning_rates": ()}, OptionError, r"learning_rates to be a sequence of at least 1 value, but got \(\)"),
        ({"steps": 0}, OptionError, r"steps to be an integer >= 1, but got 0\. The default"),
    ],
)
def test_invalid_input_is_refused(change: dict[str, Any], error: type[Exception], text: str) -> None:
    options: dict[str, Any] = {"train": scenes(), "test": scenes(), **change}
    with pytest.raises(error, match=text):
        segmentation_probe(nn.Identity(), **options)


def test_nan_weights_are_refused() -> None:
    with pytest.raises(DataError, match=r"finite features from layer 'last', but got NaN or inf\. Check the model's w"):
        segmentation_probe(lambda images: images * torch.nan, scenes(), scenes())
