from __future__ import annotations

import math
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
    segmentation_metrics,
    segmentation_probe,
)
from pretextkit.models import SmallCNN

CLASSES = 3


def scenes(count: int = 10, size: tuple[int, int] = (12, 16), seed: int = 0) -> tuple[Tensor, Tensor]:
    """Images whose gray levels tell the class of each pixel: three vertical bands of random widths."""
    generator = torch.Generator().manual_seed(seed)
    edges = torch.randint(3, size[1] - 3, (count, 2), generator=generator).sort(1).values
    columns = torch.arange(size[1])
    bands = (columns >= edges[:, :1]).long() + (columns >= edges[:, 1:]).long()
    masks = bands[:, None].expand(count, *size).contiguous()
    return (masks[:, None] / 2).float(), masks


def naive_metrics(predictions: Tensor, targets: Tensor, classes: int, ignored: int) -> tuple[float, float, list[float]]:
    pairs = [(p, t) for p, t in zip(predictions.flatten().tolist(), targets.flatten().tolist(), strict=True)]
    pairs = [(p, t) for p, t in pairs if t != ignored]
    ious = []
    for k in range(classes):
        both = sum(p == k and t == k for p, t in pairs)
        either = sum(p == k or t == k for p, t in pairs)
        ious.append(both / either if either else math.nan)
    there = [iou for iou in ious if not math.isnan(iou)]
    return sum(there) / len(there), sum(p == t for p, t in pairs) / len(pairs), ious


@pytest.mark.parametrize("seed", range(5))
def test_metrics_are_those_of_a_loop_over_pixels(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    predictions = torch.randint(4, (3, 5, 7), generator=generator)
    targets = torch.randint(4, (3, 5, 7), generator=generator)
    targets[torch.rand(targets.shape, generator=generator) < 0.2] = 255
    found = segmentation_metrics(predictions.byte(), targets.byte(), 6)  # classes 4 and 5 are nowhere
    miou, accuracy, ious = naive_metrics(predictions, targets, 6, 255)
    assert found.miou == pytest.approx(miou)
    assert found.pixel_accuracy == pytest.approx(accuracy)
    assert found.class_iou == pytest.approx(ious, nan_ok=True)
    assert all(math.isnan(iou) for iou in found.class_iou[4:])


def test_a_class_predicted_but_not_there_counts_as_zero() -> None:
    found = segmentation_metrics(torch.tensor([[[0, 0, 1, 2]]]), torch.tensor([[[0, 0, 1, 1]]]), 4)
    assert found.class_iou[:3] == (1.0, 0.5, 0.0)
    assert found.miou == pytest.approx(0.5)


@pytest.mark.parametrize("ignored", [-1, 0, 255])
def test_what_is_predicted_on_ignored_pixels_changes_nothing(ignored: int) -> None:
    targets = torch.tensor([[[1, 2, ignored, 2, ignored]]])
    first = segmentation_metrics(torch.tensor([[[1, 2, 1, 1, 2]]]), targets, 3, ignore_index=ignored)
    second = segmentation_metrics(torch.tensor([[[1, 2, 0, 1, 0]]]), targets, 3, ignore_index=ignored)
    assert first.class_iou == pytest.approx(second.class_iou, nan_ok=True)
    assert first.miou == second.miou == 0.5
    assert first.pixel_accuracy == second.pixel_accuracy == pytest.approx(2 / 3)
    assert math.isnan(first.class_iou[0])


def test_metrics_refuse_what_cannot_be_compared() -> None:
    masks = torch.zeros(1, 2, 2, dtype=torch.int64)
    with pytest.raises(ShapeError, match=r"of one shape, but got \(1, 2, 2\) and \(2, 2\)\. Scale the logits up"):
        segmentation_metrics(masks, masks[0], 2)
    with pytest.raises(
        DataError, match=r"pixels with a class, but got masks that are all ignored\. Check ignore_index=0"
    ):
        segmentation_metrics(masks, masks, 2, ignore_index=0)


@pytest.mark.parametrize("size", [(12, 16), (13, 9), (3, 4), (2, 3)])
def test_logits_at_places_are_those_of_the_whole(size: tuple[int, int]) -> None:
    logits = torch.randn(2, 5, 3, 4, generator=torch.Generator().manual_seed(0))
    y, x = (part.flatten().expand(2, -1) for part in torch.meshgrid(*map(torch.arange, size), indexing="ij"))
    whole = upsampled(logits, size).flatten(2)
    torch.testing.assert_close(sampled_at(logits, y, x, size), whole)


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


def test_a_head_that_reads_single_places_is_fitted_as_if_it_had_read_the_whole_map() -> None:
    generator = torch.Generator().manual_seed(0)
    maps, masks = torch.randn(4, 3, 9, 11, generator=generator), torch.randint(2, (4, 20, 23), generator=generator)
    options = {"learning_rate": 0.1, "steps": 20, "batch_size": 2, "pixels": 30, "ignore_index": 255, "seed": 0}
    sparse, whole = OneByOne(0), OneByOne(0)
    start = whole.conv.weight.clone()
    fit_map_head(sparse, maps, masks, **options)  # type: ignore[arg-type]
    fit_map_head(nn.Sequential(whole), maps, masks, **options)  # type: ignore[arg-type]
    torch.testing.assert_close(sparse.conv.weight, whole.conv.weight, rtol=1e-3, atol=1e-4)
    assert not torch.allclose(start, whole.conv.weight, atol=0.1)
    assert (sparse.places, whole.places) == ({30}, {99})  # each took its way


def test_a_linear_head_on_large_maps_standardises_by_sampled_places_and_reads_them_all() -> None:
    """Statistics of sampled places are those of smooth maps, but for chance."""
    maps = 5 + 3 * torch.randn(8, 2, 20, 20, generator=torch.Generator().manual_seed(0))
    maps = maps.cumsum(3) / 20  # smooth enough that places between the pixels are like them
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
def test_maps_that_are_the_truth_are_read_off_perfectly(head: Any) -> None:
    test = scenes(4, seed=1)
    truth = nn.functional.one_hot(test[1], CLASSES)

    class Truth(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return nn.functional.one_hot((2 * images[:, 0]).round().long(), CLASSES).permute(0, 3, 1, 2).float()

    result = segmentation_probe(Truth(), scenes(), test, head=head, steps=40, pixels=256)
    assert (result.miou, result.pixel_accuracy, result.class_iou) == (1.0, 1.0, (1.0, 1.0, 1.0))
    assert torch.equal(result.predictions, test[1])
    assert torch.equal(nn.functional.one_hot(result.predictions, CLASSES), truth)


def test_maps_that_say_nothing_are_at_the_commonest_class() -> None:
    images, masks = scenes(10)
    masks = torch.where(masks == 2, 0, masks)
    result = segmentation_probe(
        lambda images: torch.ones(len(images), 2, 3, 4), (images, masks), (images, masks), steps=40
    )
    assert torch.unique(result.predictions).tolist() == [int(masks.float().mean() > 0.5)]


def test_every_layer_is_scored_and_the_choice_is_not_made_on_test() -> None:
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
    """One channel of the images, as it is."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def forward(self, images: Tensor) -> Tensor:
        return images[:, [self.number]]


class TwoChannels(nn.Module):
    """Two layers, each of which sees one channel."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = Channel(0), Channel(1)

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat([self.first(images), self.second(images)], 1)


def test_the_layer_that_is_best_on_validation_is_chosen_though_another_is_best_on_test() -> None:
    """Both channels are the truth in train, only the first in validation, and only the second in test."""

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


def test_the_rate_that_is_best_on_held_out_images_is_chosen() -> None:
    def probe(*rates: float) -> SegmentationScore:
        data, options = (scenes(), scenes(3)), {"steps": 20, "pixels": 32}
        return segmentation_probe(nn.Identity(), *data, learning_rates=rates, **options).layers["last"]  # type: ignore[arg-type]

    alone = [probe(1e-3), probe(1.0)]
    best = max(alone, key=lambda score: score.validation)
    assert alone[0].validation != alone[1].validation
    assert probe(1e-3, 1.0) == best


def test_the_last_head_is_fitted_to_all_of_train(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []

    def fit(head: nn.Module, maps: Tensor, masks: Tensor, **options: Any) -> None:
        assert torch.equal(maps[:, 0], masks / 2)  # each image with its own mask
        seen.append(maps)

    monkeypatch.setattr("pretextkit.evaluation._segmentation.fit_map_head", fit)
    segmentation_probe(nn.Identity(), scenes(10), scenes(3), learning_rates=(1e-2, 1e-1))
    segmentation_probe(nn.Identity(), scenes(10), scenes(3), validation=scenes(2), learning_rates=(1e-2,))
    assert [len(maps) for maps in seen] == [8, 8, 10, 10, 10]
    assert not torch.equal(seen[0], scenes(10)[0][2:])  # a random fifth is held out, as images may be sorted


def test_layers_go_by_name_and_maps_may_be_halved() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.AvgPool2d(2), nn.Flatten())
    train, test = scenes(), scenes(3, seed=1)
    result = segmentation_probe(model, train, test, layers=["1"], steps=10, storage=torch.bfloat16)
    assert (result.layer, result.layers["1"].feature_dim) == ("1", 4)
    with pytest.raises(ShapeError, match=r"maps b d h w from layer 'last', but got shape \(1, 192\)"):
        segmentation_probe(nn.Sequential(nn.Conv2d(1, 1, 1), nn.Flatten()), train, test)
    with pytest.raises(UnknownNameError, match="a layer of Sequential, but got 'one'"):
        segmentation_probe(model, train, test, layers=["one"])


def test_the_code_of_ignored_pixels_does_not_matter() -> None:
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


def test_the_same_seed_gives_the_same_and_the_global_generator_is_left_alone() -> None:
    state = torch.get_rng_state()
    first, second = (segmentation_probe(nn.Identity(), scenes(), scenes(3), steps=5) for _ in range(2))
    assert torch.equal(first.predictions, second.predictions)
    assert torch.equal(first.head(scenes(3)[0]), second.head(scenes(3)[0]))  # in evaluation mode: nothing moves
    assert not any(module.training for module in first.head.modules())
    assert torch.equal(torch.get_rng_state(), state)
    other = segmentation_probe(nn.Identity(), scenes(), scenes(3), steps=5, seed=1)
    assert not torch.equal(next(other.head.parameters()), next(first.head.parameters()))


def test_a_validation_part_takes_the_place_of_a_split() -> None:
    train = tuple(part[:4] for part in scenes())  # too few to split
    with pytest.raises(
        DataError, match=r"at least 5 training images, a fifth of which is held out, but got 4\. Pass v"
    ):
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
            r"a pair \(images, masks\) for train, but got Tensor\. Read one with load_seg",
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
            r"test masks of classes 0 to 2, which train has, or 255 \(ignored\), but got class 3\. Set ignore_index",
        ),
        ({"train": (scenes()[0], scenes()[1] - 1)}, DataError, r"train masks of classes 0 to 1, .* but got class -1"),
        ({"learning_rates": ()}, OptionError, r"learning_rates to be a sequence of at least 1 value, but got \(\)"),
        ({"steps": 0}, OptionError, r"steps to be an integer >= 1, but got 0\. The default"),
    ],
)
def test_bad_input(change: dict[str, Any], error: type[Exception], text: str) -> None:
    options: dict[str, Any] = {"train": scenes(), "test": scenes(), **change}
    with pytest.raises(error, match=text):
        segmentation_probe(nn.Identity(), **options)


def test_weights_that_are_nan_are_told() -> None:
    with pytest.raises(DataError, match=r"finite features from layer 'last', but got NaN or inf\. Check the model's w"):
        segmentation_probe(lambda images: images * torch.nan, scenes(), scenes())
