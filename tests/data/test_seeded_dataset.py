from __future__ import annotations

import pickle
import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset

from pretextkit.data import DatasetImages


class Draws(Dataset[Tensor]):
    """Images with one pixel from each of three global generators, and one pixel for their index."""

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> Tensor:
        numbers = [torch.rand(()).item(), random.random(), np.random.rand(), index / 12]  # noqa: NPY002
        return torch.tensor(numbers).view(1, 2, 2)


ORDER = torch.split(torch.randperm(12, generator=torch.Generator().manual_seed(0)), 2)


def read(workers: int, first: int = 0, dataset: Dataset[Any] | None = None) -> Tensor:
    source = DatasetImages(Draws() if dataset is None else dataset, workers)
    return torch.stack([batch.images for batch in source.batches(ORDER[first:])]).flatten(2)


def test_draws_depend_on_batch_alone() -> None:
    full = read(0)
    assert (full[..., 3] * 12).round().flatten().tolist() == torch.cat(ORDER).tolist()
    assert [len(set(full[..., place].flatten().tolist())) for place in range(3)] == [12] * 3
    for workers in (0, 1, 2):
        assert torch.equal(read(workers), full)
        assert torch.equal(read(workers, first=3), full[3:])
    assert torch.equal(read(0, dataset=Subset(Draws(), range(12))), full), "a dataset that reads batches itself"


def test_draws_depend_on_last_global_seed() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        one = read(0)
        torch.rand(3)
        again = read(0)
        torch.manual_seed(2)
        other = read(0)
    assert torch.equal(one, again)
    assert not torch.isin(other[..., :3], one[..., :3]).any()


class Fails(Draws):
    def __getitem__(self, index: int) -> Tensor:
        super().__getitem__(index)
        raise KeyError(index)


@pytest.mark.parametrize("dataset", [Draws(), Fails()])
def test_seeded_dataset_restores_global_generators(dataset: Dataset[Any]) -> None:
    def states() -> bytes:
        return pickle.dumps((torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()))  # noqa: NPY002

    before = states()
    try:
        read(0, dataset=dataset)
    except KeyError:
        assert isinstance(dataset, Fails)
    assert states() == before
