"""Datasets of mixed labels, sizes, channels and kinds: the value of a plain loop, or an error of pretextkit."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset

from pretextkit.data import StreamImages, as_source
from pretextkit.functional import (
    compare,
    extract_features,
    fixmatch,
    freeze_and_finetune,
    knn_probe,
    linear_probe,
    mahalanobis_anomaly_score,
    nearest_neighbors,
    neighbor_anomaly_score,
    patch_anomaly_score,
    pretrain,
    reconstruction_anomaly_score,
    rotation_anomaly_score,
    select_to_label,
)
from pretextkit.tasks import Rotation
from pretextkit.testing import TinyBackbone

from .strategies import answer


class Items(Dataset[Any]):
    """A dataset of given items."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        return self.items[index]


class Stream(IterableDataset[Any]):
    """A stream of given items."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __iter__(self) -> Iterator[Any]:
        return iter(self.items)


@st.composite
def item_lists(draw: st.DrawFn) -> tuple[list[Any], list[Tensor], list[int]]:
    """Draw items, and their images ``3 h w`` in float and labels as a plain loop reads them."""
    sizes = draw(st.sampled_from([(8,), (8,), (8, 9)]))
    items, images, labels = [], [], []
    for number in range(draw(st.integers(4, 9))):
        channels, size = draw(st.sampled_from((1, 3))), draw(st.sampled_from(sizes))
        pixels = torch.randint(0, 256, (channels, size, size), generator=Generator().manual_seed(number))
        image = pixels.byte() if draw(st.booleans()) else pixels.float() / 255
        label = draw(st.sampled_from((0, 1, -1, None)))
        form = draw(st.sampled_from(("pair", "alone", "one-tuple"))) if label is None else "pair"
        items.append({"pair": (image, label), "alone": image, "one-tuple": (image,)}[form])
        images.append((pixels.float() / 255).expand(3, size, size))
        labels.append(-1 if label is None else label)
    return items, images, labels


HOLDERS: dict[str, Callable[[list[Any], int], Any]] = {
    "set": lambda items, batch: Items(items),
    "loader": lambda items, batch: DataLoader(Items(items), batch_size=batch),
    "stream": lambda items, batch: StreamImages(Stream(items), length=len(items)),
}


@pytest.mark.filterwarnings("ignore:.* test images are training images:pretextkit.errors.DataWarning")
@pytest.mark.parametrize("holder", HOLDERS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(drawn=item_lists(), batch=st.integers(1, 4))
def test_mixed_items_give_the_plain_loop_or_an_error(
    holder: str, drawn: tuple[list[Any], list[Tensor], list[int]], batch: int
) -> None:
    items, images, labels = drawn
    one_size = len({image.shape for image in images}) == 1
    some_label = any(label >= 0 for label in labels)

    def data() -> Any:
        return HOLDERS[holder](items, batch)

    flat = nn.Flatten()
    found = answer(extract_features, flat, data(), batch_size=batch)
    assert (found is not None) == one_size
    held = answer(lambda: as_source(data()).in_memory())
    assert (held is not None) == one_size
    maps = answer(reconstruction_anomaly_score, lambda x: x * 0.5, data(), batch_size=batch)
    assert (maps is not None) == one_size
    scores = answer(neighbor_anomaly_score, flat, data(), data(), k=1, batch_size=batch, metric="euclidean")
    assert (scores is not None) == one_size
    if found is not None and held is not None and maps is not None and scores is not None:
        right = torch.stack(images)
        features = found.layers["last"]
        color = features.shape[1] == right[0].numel()
        torch.testing.assert_close(features, (right if color else right[:, :1]).flatten(1))
        torch.testing.assert_close(maps.scores, (0.5 * right).square().mean((1, 2, 3)))
        assert len(scores.scores) == len(held) == len(images)
        if any(label is not None for label in labels) and found.labels is not None:
            assert found.labels.tolist() == labels
        assert found.labels is not None or not some_label
        assert held.labels is not None or not some_label
        assert held.labels is None or held.labels.tolist() == labels

    linear = answer(linear_probe, flat, data(), data(), batch_size=batch)
    nearest = answer(knn_probe, flat, data(), data(), batch_size=batch)
    for result in (linear, nearest):
        assert result is None or result.targets.tolist() == [label for label in labels if label >= 0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        options: dict[str, Any] = {"progress": False, "device": "cpu"}
        answer(freeze_and_finetune, TinyBackbone(), nn.Linear(64, 2), data(), data(), epochs=1, batch_size=2, **options)
        answer(fixmatch, TinyBackbone(), nn.Linear(64, 2), data(), None, data(), steps=1, batch_size=2, **options)
        answer(pretrain, Rotation(TinyBackbone()), data(), steps=1, batch_size=2, **options)
        chosen = answer(select_to_label, data(), 1, backbone=flat, method="k-center", batch_size=batch)
        assert chosen is None or 0 <= int(chosen.indices) < len(images)
        near = answer(nearest_neighbors, flat, data(), k=1, batch_size=batch)
        assert near is None or len(near.indices) == len(images)
        backbone = TinyBackbone()
        for scored in (
            answer(mahalanobis_anomaly_score, backbone, data(), data(), batch_size=batch),
            answer(patch_anomaly_score, backbone, data(), data(), batch_size=batch),
            answer(rotation_anomaly_score, Rotation(backbone), data(), batch_size=batch),
        ):
            assert scored is None or len(scored.scores) == len(images)
        budget: dict[str, Any] = {"epochs": 1, "batch_size": 2, "label_fractions": (), **options}
        answer(compare, ["rotation"], TinyBackbone, data(), data(), **budget)
