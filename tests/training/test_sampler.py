from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, TensorDataset

from pretextkit.data._dataset_images import DatasetImages
from pretextkit.data._loader_images import LoaderImages
from pretextkit.data._sources import ImageSource
from pretextkit.data._tensor_images import TensorImages
from pretextkit.distributed._batch_slices import BatchSlice
from pretextkit.training._sampler import BatchSampler

N = 11

Steps = list[tuple[int, list[int]]]


def numbered(kind: str) -> ImageSource:
    images = torch.arange(N, dtype=torch.uint8).view(N, 1, 1, 1)
    if kind == "tensor":
        return TensorImages(images, torch.arange(N))
    if kind == "dataset":
        return DatasetImages(TensorDataset(images, torch.arange(N)))
    loader: DataLoader[Any] = DataLoader(TensorDataset(images, torch.arange(N)), batch_size=4)
    return LoaderImages(loader)


def read(source: ImageSource, start: int, total: int, batch_size: int = 3, seed: int = 0) -> Steps:
    found = []
    for step, images, labels in BatchSampler(source, batch_size, N // batch_size, seed).batches(start, total):
        assert isinstance(labels, Tensor)
        assert torch.equal(images.flatten().long(), labels)
        found.append((step, labels.tolist()))
    return found


def rows(steps: Steps) -> list[int]:
    return [row for _, batch in steps for row in batch]


@pytest.mark.parametrize("kind", ["tensor", "dataset", "loader"])
@given(start=st.integers(0, 12), total=st.integers(0, 12))
def test_resumed_sampler_reads_the_remaining_batches(kind: str, start: int, total: int) -> None:
    assert read(numbered(kind), start, total) == read(numbered(kind), 0, total)[start:]


@given(st.integers(1, N), st.integers(0, 30))
def test_sampler_counts_steps_and_fills_batches(batch_size: int, total: int) -> None:
    batches = read(numbered("tensor"), 0, total, batch_size)
    assert [step for step, _ in batches] == list(range(total))
    assert all(len(batch) == batch_size for _, batch in batches)


@pytest.mark.parametrize("kind", ["tensor", "dataset", "loader"])
@pytest.mark.parametrize("start", [0, 2])
def test_slices_of_each_batch_join_to_the_batch(kind: str, start: int) -> None:
    def shared(batch_slice: BatchSlice) -> list[list[int]]:
        batches = BatchSampler(numbered(kind), 4, 2, 0, batch_slice).batches(start, 6)
        return [labels.tolist() for _, _, labels in batches if labels is not None]

    halves = zip(shared(BatchSlice(0, 2)), shared(BatchSlice(1, 2)), strict=True)
    assert [one + other for one, other in halves] == shared(BatchSlice(0, 1))
    assert all(len(half) == 2 for half in shared(BatchSlice(1, 2)))


@pytest.mark.parametrize("kind", ["tensor", "dataset"])
def test_epoch_repeats_no_image_and_has_its_own_order(kind: str) -> None:
    batches = read(numbered(kind), 0, 3 * 3)
    epochs = [rows(batches[i : i + 3]) for i in (0, 3, 6)]
    assert all(len(set(epoch)) == 9 for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_left_out_images_differ_between_epochs() -> None:
    left = [set(range(N)) - set(rows(read(numbered("tensor"), start, start + 3))) for start in range(0, 60, 3)]
    assert set().union(*left) == set(range(N))


def test_seed_decides_the_order() -> None:
    assert read(numbered("tensor"), 0, 3, seed=0) != read(numbered("tensor"), 0, 3, seed=1)


def test_loader_keeps_its_own_order() -> None:
    assert [batch for _, batch in read(numbered("loader"), 0, 3)] == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]


def test_shuffling_loader_is_seeded_by_the_run() -> None:
    def shuffled(start: int, seed: int = 0) -> Steps:
        images = torch.arange(N, dtype=torch.uint8).view(N, 1, 1, 1)
        loader: DataLoader[Any] = DataLoader(TensorDataset(images, torch.arange(N)), batch_size=4, shuffle=True)
        return read(LoaderImages(loader), start, 6, seed=seed)

    with torch.random.fork_rng(devices=[]):
        full = shuffled(0)
        assert shuffled(4) == full[4:]
        assert shuffled(0) == full
        assert shuffled(0, seed=1) != full
    assert sorted(rows(full[:3])) != rows(full[:3])
    assert full[0][1] != full[3][1]


class Noisy(Dataset[Tensor]):
    def __len__(self) -> int:
        return N

    def __getitem__(self, index: int) -> Tensor:
        return torch.rand(1, 2, 2)


@pytest.mark.parametrize("workers", [0, 2])
def test_random_transforms_repeat_and_resume(workers: int) -> None:
    def pixels(start: int, workers: int = workers) -> list[Tensor]:
        return [images for _, images, _ in BatchSampler(DatasetImages(Noisy(), workers), 3, 3, 0).batches(start, 6)]

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        full = torch.stack(pixels(0))
        assert len(set(full.flatten().tolist())) == full.numel()
        torch.manual_seed(1)
        assert torch.equal(torch.stack(pixels(4)), full[4:])
        assert torch.equal(torch.stack(pixels(0, workers=0)), full)


def test_batches_of_one_image_draw_again_in_every_epoch() -> None:
    with torch.random.fork_rng(devices=[]):
        seen = [images for _, images, _ in BatchSampler(DatasetImages(Noisy()), 1, N, 0).batches(0, 3 * N)]
        other = [images for _, images, _ in BatchSampler(DatasetImages(Noisy()), 1, N, 1).batches(0, 3 * N)]
    assert len(set(torch.stack(seen + other).flatten().tolist())) == 2 * 3 * N * 4
