"""Data of which some images have no label: their label is -1, wherever they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import ConcatDataset, DataLoader, Dataset, IterableDataset

from pretextkit.data import ImageSource, StreamImages, as_source
from pretextkit.errors import DataError, ShapeError
from pretextkit.functional import extract_features, knn_probe, linear_probe

N = 48


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


def image(label: int) -> Tensor:
    """Draw an image whose upper half shows the class."""
    return torch.cat([torch.full((3, 2, 4), 0.2 + 0.6 * label), torch.full((3, 2, 4), 0.5)], 1)


UNLABELED: dict[str, Callable[[Tensor], Any]] = {
    "image alone": lambda x: x,
    "one-tuple": lambda x: (x,),
    "none": lambda x: (x, None),
    "minus one": lambda x: (x, -1),
}
LABELED: dict[str, Callable[[int], bool]] = {
    "not first": lambda i: i > 0,
    "not last": lambda i: i < N - 1,
    "second half": lambda i: i >= N // 2,
    "first half": lambda i: i < N // 2,
    "all but one batch": lambda i: not 16 <= i < 24,
    "two of three": lambda i: i % 3 > 0,
}
HOLDERS: dict[str, Callable[[list[Any]], Any]] = {
    "set": Items,
    "loader": lambda items: DataLoader(Items(items), batch_size=8),
    "stream": lambda items: StreamImages(Stream(items), length=len(items)),
    "labels apart": lambda items: DataLoader(Items(items), batch_size=8, collate_fn=_images_and_list),
}


def _images_and_list(items: list[Any]) -> tuple[Tensor, list[Any]]:
    pairs = [item if isinstance(item, tuple) else (item,) for item in items]
    return torch.stack([pair[0] for pair in pairs]), [pair[1] if len(pair) > 1 else None for pair in pairs]


def test_concatenated_set_with_unlabeled_half_is_probed_right() -> None:
    class Photos(Dataset[Any]):
        def __init__(self, labeled: bool) -> None:
            self.labeled = labeled

        def __len__(self) -> int:
            return 256

        def __getitem__(self, i: int) -> Any:
            picture = torch.full((3, 8, 8), 0.2 + 0.6 * (i % 2))
            return (picture, i % 2) if self.labeled else 1 - picture

    train: Any = ConcatDataset([Photos(False), Photos(True)])
    features = extract_features(nn.Flatten(), train)
    assert features.labels is not None
    assert len(features.layers["last"]) == len(features.labels) == 512
    assert linear_probe(nn.Flatten(), train, Photos(True)).accuracy == 1


@pytest.mark.parametrize("holder", HOLDERS)
@pytest.mark.parametrize("unlabeled", UNLABELED)
@pytest.mark.parametrize("labeled", LABELED)
def test_missing_labels_read_as_minus_one(holder: str, unlabeled: str, labeled: str) -> None:
    has_label = LABELED[labeled]
    items = [(image(i % 2), i % 2) if has_label(i) else UNLABELED[unlabeled](1 - image(i % 2)) for i in range(N)]
    expected = torch.tensor([i % 2 if has_label(i) else -1 for i in range(N)])
    data = HOLDERS[holder]
    features = extract_features(nn.Flatten(), data(items), batch_size=8)
    assert features.labels is not None
    assert features.labels.tolist() == expected.tolist()
    assert len(features.layers["last"]) == N
    held = as_source(data(items)).in_memory().labels
    assert held is not None
    assert held.tolist() == expected.tolist()
    clean = torch.stack([image(i % 2) for i in range(10)]), torch.arange(10) % 2
    assert linear_probe(nn.Flatten(), data(items), clean).accuracy == 1
    assert knn_probe(nn.Flatten(), clean, data(items), k=1).accuracy == 1


def test_none_in_labels_of_a_tensor_is_minus_one() -> None:
    labels: Any = [1, None, 0]
    assert as_source(torch.rand(3, 3, 4, 4), labels).in_memory().labels.tolist() == [1, -1, 0]  # type: ignore[union-attr]


@pytest.mark.parametrize("holder", HOLDERS)
def test_data_without_any_label_has_none(holder: str) -> None:
    assert extract_features(nn.Flatten(), HOLDERS[holder]([image(0)] * N)).labels is None


def test_stream_shorter_than_its_length_is_refused() -> None:
    with pytest.raises(DataError) as caught:
        extract_features(nn.Flatten(), StreamImages(Stream([image(0)] * 5), length=9))
    assert str(caught.value).startswith("Expected 9 images, the length of the source, but got 5.")


def test_source_with_too_few_labels_is_refused() -> None:
    class Short(ImageSource):
        def __len__(self) -> int:
            return 4

        def batches(self, order: Any) -> Iterator[Any]:
            from pretextkit.data._collate import ImageBatch

            return (ImageBatch(torch.rand(len(rows), 3, 4, 4), torch.zeros(1, dtype=torch.int64)) for rows in order)

    with pytest.raises(ShapeError) as caught:
        extract_features(nn.Flatten(), Short())
    assert str(caught.value).startswith("Expected as many labels as images in a batch, but got 1 labels for 4 images.")
