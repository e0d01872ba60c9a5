"""Fault 4: sets that are read apart number their classes apart."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset

import pretextkit as pk
from pretextkit.data import FolderImages
from pretextkit.errors import DataError
from pretextkit.functional import compare, freeze_and_finetune, knn_probe, linear_probe, segmentation_probe
from pretextkit.testing import TinyBackbone

COLORS = {"apple": (200, 0, 0), "leaf": (0, 200, 0), "sky": (0, 0, 200)}


def mean(images: Tensor) -> Tensor:
    return images.mean((2, 3))


class Means(nn.Module):
    feature_dim = 3

    def forward(self, images: Tensor) -> Tensor:
        return 4 * mean(images)


class Colors(Dataset[tuple[Tensor, int]]):
    """Images of one color for each class, with names as torchvision's datasets have them."""

    def __init__(self, *classes: str, count: int = 12, images_of: tuple[str, ...] | None = None) -> None:
        self.classes = list(classes)
        self.items = [(name, classes.index(name)) for name in images_of or classes for _ in range(count)]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        name, label = self.items[index]
        return torch.tensor(COLORS[name]).div(255)[:, None, None].expand(3, 32, 32), label


TRAIN, TEST = Colors("apple", "leaf", "sky"), Colors("apple", "sky")
TRAIN_ITEMS = [TRAIN[i] for i in range(len(TRAIN))]
TRAIN_PAIR = torch.stack([image for image, _ in TRAIN_ITEMS]), torch.tensor([label for _, label in TRAIN_ITEMS])


def folder(root: Path, names: Any, count: int = 12) -> Path:
    for name in names:
        (root / name).mkdir(parents=True)
        for i in range(count):
            Image.new("RGB", (32, 32), COLORS[name]).save(root / name / f"{i}.png")
    return root


def test_folders_are_matched_by_name(tmp_path: Path) -> None:
    train, test = folder(tmp_path / "train", COLORS), folder(tmp_path / "test", ["apple", "sky"])
    result = linear_probe(mean, train, test)
    assert result.accuracy == knn_probe(mean, train, test, k=3).accuracy == 1
    assert set(result.targets.tolist()) == {0, 2}
    assert result.class_report.class_names == tuple(COLORS)


@pytest.mark.parametrize(
    "test",
    [
        TEST,
        DataLoader(TEST, batch_size=5),
        Subset(TEST, range(24)),
        ConcatDataset([TEST, TEST]),
        Colors("sky", "leaf", "apple"),
        pk.data.as_source(TEST),
        pk.data.as_source(TEST).in_memory(),
        Colors("apple", "unknown", "sky", images_of=("apple", "sky")),
    ],
    ids=["dataset", "loader", "subset", "concat", "other order", "source", "in memory", "unknown without images"],
)
def test_every_kind_of_set_is_matched_by_name(test: Any) -> None:
    assert linear_probe(mean, TRAIN, test).accuracy == 1
    assert knn_probe(mean, TRAIN, test, k=3).accuracy == 1


def test_loaded_sets_are_matched_by_name(tmp_path: Path) -> None:
    one = pk.data.load(folder(tmp_path / "one", COLORS), size=32)
    other = pk.data.load(folder(tmp_path / "other", ["leaf", "sky"]), size=32)
    assert linear_probe(mean, one.train, other.test).accuracy == 1
    images, labels = one.train
    assert isinstance(one.train, pk.Labeled)
    assert images is one.train_images
    assert labels is one.train_labels


def test_finetuning_matches_validation_by_name() -> None:
    torch.manual_seed(0)
    result = freeze_and_finetune(
        Means(), nn.Linear(3, 3), TRAIN, TEST, epochs=14, learning_rate=1.0, device="cpu", progress=False
    )
    assert result.accuracy == 1
    assert result.targets is not None
    assert set(result.targets.tolist()) == {0, 2}


def test_compare_matches_test_by_name() -> None:
    options: Any = {"epochs": 1, "batch_size": 12, "label_fractions": [1.0], "finetune_steps": 2, "device": "cpu"}
    result = compare(["rotation"], TinyBackbone, TRAIN, TEST, **options, progress=False)
    right = compare(["rotation"], TinyBackbone, TRAIN, Colors(*COLORS, images_of=("apple", "sky")), **options)
    assert [run.knn for run in result.runs] == [run.knn for run in right.runs]
    assert [run.finetuned for run in result.runs] == [run.finetuned for run in right.runs]
    report = result.runs[0].linear_report
    assert report is not None
    assert report.class_names == tuple(COLORS)
    assert report.counts == (12, 0, 12)


def test_names_that_train_lacks_are_refused() -> None:
    for call in (linear_probe, knn_probe):
        with pytest.raises(DataError) as caught:
            call(mean, TEST, TRAIN)
        assert caught.value.text == (
            "Expected test classes with the names of train (apple, sky), but got leaf. Rename the classes, or pass "
            "pairs (images, labels) to match the classes by their labels."
        )
    with pytest.raises(DataError, match="val classes with the names of train"):
        freeze_and_finetune(Means(), nn.Linear(3, 2), TEST, TRAIN, epochs=1, progress=False)


def test_parts_of_a_concat_that_disagree_are_refused() -> None:
    with pytest.raises(DataError) as caught:
        linear_probe(mean, ConcatDataset([TRAIN, TEST]), TEST)
    assert str(caught.value).startswith(
        "Expected parts of a ConcatDataset that number their classes alike, but got classes apple, leaf, sky beside "
        "apple, sky. "
    )


def test_class_without_images_keeps_its_number() -> None:
    train = Colors("apple", "leaf", "sky", images_of=("apple", "sky"))
    result = linear_probe(mean, train, TEST)
    assert result.accuracy == 1
    assert set(result.predictions.tolist()) == {0, 2}
    green = torch.tensor([[0.0, 0.8, 0.0]])
    assert result.head(green)[0, 1] == -torch.inf
    assert knn_probe(mean, train, TEST, k=3).accuracy == 1
    with pytest.raises(DataError) as caught:
        linear_probe(mean, train, TRAIN)
    assert caught.value.text == (
        "Expected test images of classes that have images in train, but got leaf, without an image in train. Give "
        "train at least one image of every class."
    )


def test_finetuning_keeps_the_number_of_a_class_without_images() -> None:
    train = Colors("apple", "leaf", "sky", images_of=("apple", "sky"))
    torch.manual_seed(0)
    result = freeze_and_finetune(
        Means(), nn.Linear(3, 3), train, TEST, epochs=14, learning_rate=1.0, device="cpu", progress=False
    )
    assert result.accuracy == 1


def test_gap_without_names_stays_an_error() -> None:
    features, labels = torch.eye(3).repeat(4, 1), torch.tensor([0, 2, 3] * 4)
    with pytest.raises(DataError, match="without 1"):
        linear_probe(nn.Identity(), (features, labels), (features, labels))


@pytest.mark.filterwarnings("ignore:All .* test images are training images")
def test_equal_and_missing_names_change_nothing() -> None:
    for train, test in ((TRAIN, TRAIN_PAIR), (TRAIN_PAIR, TRAIN), (TRAIN_PAIR, TRAIN_PAIR), (TRAIN, TRAIN)):
        assert linear_probe(mean, train, test).accuracy == 1


def test_names_that_do_not_describe_the_labels_are_ignored() -> None:
    train, test = Colors(*COLORS), Colors(*COLORS)
    test.classes = ["warm", "cold"]  # fewer than the labels
    assert linear_probe(mean, train, test).accuracy == 1
    test.classes, test.target_transform = ["red", "green", "blue"], lambda label: label  # type: ignore[attr-defined]
    assert linear_probe(mean, train, test).accuracy == 1


@pytest.mark.filterwarnings("ignore:All .* test images are training images")
def test_folder_of_arrays_stays_matched_by_label() -> None:
    images = np.stack([np.full((8, 8, 3), value, np.uint8) for value in (0, 200) * 6])
    labels = np.array([0, 1] * 6)
    assert linear_probe(mean, (images, labels), (images, labels)).class_report.class_names == ("0", "1")


@pytest.mark.filterwarnings("ignore:All .* test images are training images")
def test_unlabeled_images_beside_names_are_left_out() -> None:
    features, labels = torch.eye(3).repeat(4, 1), torch.tensor([0, 1, -1] * 4)
    assert linear_probe(nn.Identity(), (features, labels), (features, labels)).accuracy == 1


def test_folder_names_reach_the_source(tmp_path: Path) -> None:
    source = pk.data.as_source(FolderImages(folder(tmp_path / "x", COLORS, count=1), size=32))
    assert source.class_names == source.without_labels().class_names == source.in_memory().class_names == tuple(COLORS)


def streets(names: tuple[str, ...], bright: int, seed: int) -> pk.data.SegmentationData:
    """Images whose right half is bright; class ``bright`` is its number."""
    masks = torch.full((8, 8, 8), 1 - bright)
    masks[:, :, 4:] = bright
    noise = 0.1 * torch.rand(8, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    images = (masks == bright)[:, None].float() * 0.8 + noise
    part = pk.data.Segmented(images, masks)
    return pk.data.SegmentationData("streets", part, None, part, names, 255)


def test_masks_are_matched_by_name() -> None:
    train, other = streets(("road", "sky"), 1, 0), streets(("sky", "road"), 0, 1)
    found = segmentation_probe(nn.Identity(), train.train, other.test, validation=other.train, steps=60)
    assert found.miou == 1
    pairs = (train.train.images, train.train.masks), (other.test.images, other.test.masks)
    alone = segmentation_probe(nn.Identity(), *pairs, steps=60)
    assert alone.miou < 0.1  # pairs without names are matched by number


def test_masks_with_unknown_names_are_refused() -> None:
    train, other = streets(("road", "sky"), 1, 0), streets(("sky", "water"), 0, 1)
    with pytest.raises(DataError, match="test classes with the names of train"):
        segmentation_probe(nn.Identity(), train.train, other.test, steps=1)


def test_masks_with_equal_names_stay_as_they_are() -> None:
    train = streets(("road", "sky"), 1, 0)
    assert segmentation_probe(nn.Identity(), train.train, train.test, steps=60).miou == 1


@pytest.mark.parametrize("trainable", ["none", "all"])
@pytest.mark.parametrize("outputs", [3, 7])
def test_finetuning_never_predicts_a_class_without_images(trainable: Any, outputs: int) -> None:
    """The head prefers the absent class; a test image of it is refused, and all others get a class of train."""
    head = nn.Linear(3, outputs)
    nn.init.zeros_(head.weight)
    head.bias.data = torch.full((outputs,), 50.0)
    head.bias.data[[0, 2]] = 0.0
    train = Colors("apple", "leaf", "sky", images_of=("apple", "sky"))
    backbone = nn.Sequential(nn.Conv2d(3, 3, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    result = freeze_and_finetune(
        backbone, head, train, train, epochs=12, trainable=trainable, device="cpu", progress=False
    )
    assert result.accuracy == 1.0
    logits = result.classifier(torch.rand(50, 3, 4, 4))
    assert set(logits.argmax(1).tolist()) <= {0, 2}
    assert logits[:, [0, 2]].isfinite().all()
    assert logits.shape == (50, 3)
    assert (logits.softmax(1)[:, 1] == 0).all()
    assert head(torch.rand(1, 3)).isfinite().all()
    assert math.isfinite(result.history.rows[0]["loss"])
