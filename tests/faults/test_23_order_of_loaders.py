"""Results by position, of loaders that have an order of their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from pretextkit.data import FolderImages
from pretextkit.data._image_files import find_files
from pretextkit.errors import DataWarning
from pretextkit.functional import (
    Classifier,
    extract_features,
    knn_probe,
    linear_probe,
    mahalanobis_anomaly_score,
    near_duplicates,
    nearest_neighbors,
    neighbor_anomaly_score,
    pretrain,
    select_to_label,
)
from pretextkit.models import LinearHead
from pretextkit.tasks import SimCLR
from pretextkit.testing import TinyBackbone
from tests.helpers import random_images

from .test_7_followed import write

IMAGES = random_images(10)
LABELS = torch.arange(10) % 2
DATA = TensorDataset(IMAGES, LABELS)
SHUFFLED, DROPPED = r"The DataLoader shuffles, so row i .* shuffle=False\.", r"drops 2 images because of drop_last=True"

LOADERS: dict[str, Callable[[Any], DataLoader[Any]]] = {
    "shuffle": lambda data: DataLoader(data, 5, shuffle=True),
    "subset": lambda data: DataLoader(data, 5, sampler=SubsetRandomSampler(range(10))),
    "weighted": lambda data: DataLoader(data, 5, sampler=WeightedRandomSampler([1.0] * 10, 10)),
    "batch sampler": lambda data: DataLoader(data, batch_sampler=BatchSampler(RandomSampler(data), 5, False)),
    "single items": lambda data: DataLoader(data, 1, shuffle=True),
}

IN_ORDER: dict[str, Callable[[Any], DataLoader[Any]]] = {
    "plain": lambda data: DataLoader(data, 4),
    "nothing to drop": lambda data: DataLoader(data, 5, drop_last=True),
    "batch sampler": lambda data: DataLoader(data, batch_sampler=BatchSampler(SequentialSampler(data), 5, False)),
}


def made() -> Classifier:
    return Classifier(TinyBackbone(), LinearHead(64, 2), class_names=("cat", "dog"))


def by_position() -> list[Callable[[Any], Any]]:
    return [
        made().predict,
        made().predict_proba,
        lambda images: nearest_neighbors(nn.Flatten(), images, IMAGES, k=1),
        lambda images: nearest_neighbors(nn.Flatten(), IMAGES, images, k=1),
        lambda images: near_duplicates(nn.Flatten(), images, threshold=0.0),
        lambda images: select_to_label(images, 1, backbone=nn.Flatten(), method="random"),
    ]


@pytest.mark.parametrize("kind", LOADERS)
def test_shuffled_loaders_warn_once_where_rows_are_counted(kind: str) -> None:
    for call in by_position():
        with pytest.warns(DataWarning, match=SHUFFLED) as caught:
            call(LOADERS[kind](DATA))
        assert len(caught) == 1
        assert Path(caught[0].filename) == Path(__file__)


@pytest.mark.parametrize("kind", LOADERS)
def test_features_without_labels_warn_and_those_with_labels_do_not(kind: str) -> None:
    assert extract_features(nn.Flatten(), LOADERS[kind](DATA)).labels is not None
    with pytest.warns(DataWarning, match=SHUFFLED) as caught:
        extract_features(nn.Flatten(), LOADERS[kind](TensorDataset(IMAGES)))
    assert len(caught) == 1
    assert Path(caught[0].filename) == Path(__file__)


def test_normal_images_may_be_shuffled() -> None:
    normal = DataLoader(TensorDataset(random_images(40, seed=1)), 8, shuffle=True)
    neighbor_anomaly_score(nn.Flatten(), normal, IMAGES, k=1)
    mahalanobis_anomaly_score(nn.Flatten(), normal, IMAGES)


def test_dropped_images_are_counted() -> None:
    for call in by_position():
        with pytest.warns(DataWarning, match=DROPPED):
            call(DataLoader(DATA, 4, drop_last=True))


@pytest.mark.parametrize("kind", IN_ORDER)
def test_loaders_in_order_do_not_warn(kind: str) -> None:
    for call in by_position():
        call(IN_ORDER[kind](DATA))


def test_advice_gives_rows_in_order() -> None:
    classifier, loader = made(), DataLoader(DATA, 5, shuffle=True)
    expected = classifier.predict_proba(IMAGES)
    torch.testing.assert_close(classifier.predict_proba(loader.dataset), expected)
    torch.testing.assert_close(classifier.predict_proba(DataLoader(DATA, 5, shuffle=False)), expected)


@pytest.mark.parametrize("options", [{"shuffle": True}, {"drop_last": True}])
def test_training_and_probes_do_not_warn(options: Any) -> None:
    loader = DataLoader(DATA, 4, **options)
    pretrain(SimCLR(TinyBackbone()), loader, steps=1, device="cpu", progress=False)
    test = (random_images(4, seed=3), [0, 1, 0, 1])
    knn_probe(nn.Flatten(), loader, test, k=1)
    linear_probe(nn.Flatten(), loader, test)


def test_files_of_loaders_follow_their_order(tmp_path: Path) -> None:
    write(tmp_path, *(f"{number}.png" for number in range(10)))
    folder = FolderImages(tmp_path)
    files = tuple(map(str, folder.paths))
    for loader in IN_ORDER.values():
        assert find_files(loader(folder)) == files
    with pytest.warns(DataWarning, match=DROPPED):
        assert find_files(DataLoader(folder, 4, drop_last=True)) == files[:8]
    for loader in LOADERS.values():
        with pytest.warns(DataWarning, match=SHUFFLED):
            assert find_files(loader(folder)) is None
