from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from pretextkit.data import LoaderImages, StreamImages, as_source, shards_for_this_worker
from pretextkit.errors import DataError
from pretextkit.functional import pretrain
from pretextkit.tasks import Rotation
from pretextkit.testing import TinyBackbone
from pretextkit.training._sampler import BatchSampler

SHARDS = [list(range(start, start + 3)) for start in range(0, 24, 3)]


class Shards(IterableDataset[Any]):
    """Numbered images with labels, from the shards of this process and worker."""

    def __init__(self, shuffle: bool = False) -> None:
        self.shuffle = shuffle

    def __len__(self) -> int:
        return 24

    def __iter__(self) -> Iterator[Any]:
        for shard in shards_for_this_worker(SHARDS, shuffle=self.shuffle):
            yield from ((torch.full((1, 2, 2), number, dtype=torch.uint8), number) for number in shard)


class Same(Shards):
    def __iter__(self) -> Iterator[Any]:
        return (torch.full((1, 2, 2), number / 24) for number in range(24))


class Endless(IterableDataset[Tensor]):
    def __iter__(self) -> Iterator[Tensor]:
        while True:
            yield torch.zeros(1, 2, 2)


def numbers(source: StreamImages, sizes: list[int]) -> list[list[int]]:
    found = []
    for images, labels in source.batches([torch.zeros(size, dtype=torch.int64) for size in sizes]):
        assert labels is not None
        assert torch.equal(images[:, 0, 0, 0].long(), labels)
        found.append(labels.tolist())
    return found


@given(st.lists(st.integers(1, 9), max_size=6))
def test_stream_batches_follow_order_and_size(sizes: list[int]) -> None:
    rest, expected = list(range(24)), []
    for size in sizes:
        expected.append(rest[:size])
        rest = rest[size:]
    assert numbers(StreamImages(Shards()), sizes) == [batch for batch in expected if batch]


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("shuffle", [False, True])
def test_workers_give_each_image_once(workers: int, shuffle: bool) -> None:
    found = numbers(StreamImages(Shards(shuffle), workers=workers), [5] * 6)
    assert [len(batch) for batch in found] == [5, 5, 5, 5, 4]
    assert sorted(number for batch in found for number in batch) == list(range(24))


def test_workers_with_equal_images_raise_error() -> None:
    with pytest.raises(DataError) as caught:
        list(StreamImages(Same(), workers=2).in_order(4))
    assert caught.value.text == (
        "Expected another part of the stream for each worker, but got the same images. Let the dataset iterate over "
        "pretextkit.data.shards_for_this_worker(all_shards), or, if it is a WebDataset, split by node and by worker."
    )
    assert len(list(StreamImages(Same(), workers=1).in_order(4))) == 6


@pytest.mark.parametrize("count", [1, 2, 3])
def test_shards_are_split_among_processes(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    found: list[list[int]] = []
    monkeypatch.setenv("WORLD_SIZE", str(count))
    for rank in range(count):
        monkeypatch.setenv("RANK", str(rank))
        found += shards_for_this_worker(SHARDS)
    assert sorted(found) == SHARDS


def test_shard_order_depends_on_epoch() -> None:
    def epoch(seed: int, workers: int) -> list[list[int]]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return numbers(StreamImages(Shards(shuffle=True), workers=workers), [24])

    for workers in (0, 1):
        assert epoch(0, workers) == epoch(0, workers) != epoch(1, workers)


def test_as_source_of_iterable_needs_length() -> None:
    assert len(as_source(Shards())) == 24
    assert len(StreamImages(Endless(), length=7)) == 7
    with pytest.raises(DataError) as caught:
        as_source(Endless())
    assert caught.value.text == (
        "Expected a stream that says how many images it has, but got Endless without __len__. "
        "Pass pretextkit.data.StreamImages(dataset, length=...): a schedule and epochs need it."
    )
    with pytest.raises(DataError, match="Expected at least one image in a stream, but got length 0"):
        StreamImages(Endless(), length=0)
    with pytest.raises(DataError, match="pass an IterableDataset itself"):
        LoaderImages(DataLoader(Shards()))


def test_as_source_labels_false_drops_labels() -> None:
    source = StreamImages(Shards())
    assert next(source.without_labels().in_order(4)).labels is None
    assert next(source.in_order(4)).labels is not None


@pytest.mark.parametrize("start", [0, 2, 4])
def test_resumed_run_reads_same_stream(start: int) -> None:
    def steps(start: int) -> list[tuple[int, list[int]]]:
        with torch.random.fork_rng(devices=[]):
            batches = BatchSampler(StreamImages(Shards(shuffle=True)), 8, 3, 0).batches(start, 6)
            return [(step, labels.tolist()) for step, _, labels in batches if labels is not None]

    full = steps(0)
    assert steps(start) == full[start:]
    for epoch in (full[:3], full[3:]):
        assert sorted(number for _, batch in epoch for number in batch) == list(range(24))
    assert full[:3] != [(step - 3, batch) for step, batch in full[3:]]


def test_stream_shorter_than_length_raises_error() -> None:
    with torch.random.fork_rng(devices=[]), pytest.raises(DataError) as caught:
        list(BatchSampler(StreamImages(Shards(), length=40), 10, 4, 0).batches(0, 4))
    assert caught.value.text == (
        "Expected 4 batches of 10 in an epoch of 40 images, but got only 2. The stream ends before its length says. "
        "Give every process and worker the same number of images: shards of equal size, whose number is a multiple of "
        "processes x workers. Or pass a smaller length."
    )


class Noise(IterableDataset[Tensor]):
    def __len__(self) -> int:
        return 16

    def __iter__(self) -> Iterator[Tensor]:
        return iter(torch.rand(16, 3, 16, 16))


def test_pretrain_reads_stream() -> None:
    def weights() -> dict[str, Tensor]:
        torch.manual_seed(0)
        task = Rotation(TinyBackbone())
        result = pretrain(task, Noise(), epochs=2, batch_size=8, device="cpu", precision="fp32", progress=False)
        assert result.steps == 4
        return task.state_dict()

    with torch.random.fork_rng(devices=[]):
        one, other = weights(), weights()
    assert all(torch.equal(value, other[name]) for name, value in one.items())
