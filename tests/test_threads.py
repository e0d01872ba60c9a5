"""Threads and worker processes do not change results."""

from __future__ import annotations

import copy
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Generator, Tensor
from torch.utils.data import DataLoader, Dataset

import pretextkit as pk
from pretextkit import functional
from pretextkit.data import DatasetImages
from pretextkit.data import _dataset_images as sources
from pretextkit.functional import pretrain
from pretextkit.testing import TinyBackbone, toy_images

pytestmark = pytest.mark.xdist_group("serial")

IMAGES = toy_images(40, size=16, generator=Generator().manual_seed(0))
LABELS = torch.arange(40) % 4


def backbone() -> TinyBackbone:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return TinyBackbone()


SHARED = backbone()

WORK: dict[str, Callable[[int], Tensor]] = {
    "views": lambda seed: pk.tasks.SimCLR(SHARED).views(IMAGES, Generator().manual_seed(seed)).a,
    "features": lambda seed: functional.extract_features(SHARED, IMAGES[seed:]).layers["last"],
    "knn": lambda seed: (
        functional.knn_probe(SHARED, (IMAGES[:20], LABELS[:20]), (IMAGES[20 + seed :], LABELS[20 + seed :])).predictions
    ),
    "all layers": lambda seed: functional.extract_features(SHARED, IMAGES[seed:], layers="all").layers["stage2"],
    "neighbors": lambda seed: functional.neighbor_anomaly_score(SHARED, IMAGES[:20], IMAGES[seed:]).scores,
}


@pytest.mark.parametrize("name", WORK)
def test_threads_sharing_a_backbone_give_serial_results(name: str) -> None:
    SHARED.train()
    one_by_one = [WORK[name](seed % 4) for seed in range(12)]
    with ThreadPoolExecutor(4) as pool:
        at_once = list(pool.map(WORK[name], (seed % 4 for seed in range(12))))
    for one, other in zip(one_by_one, at_once, strict=True):
        assert torch.equal(one, other)
    assert all(module.training for module in SHARED.modules())
    assert all(weight.requires_grad for weight in SHARED.parameters())


class Noisy(Dataset[Tensor]):
    """Random transforms from torch's global generator."""

    def __len__(self) -> int:
        return len(IMAGES)

    def __getitem__(self, index: int) -> Tensor:
        return (IMAGES[index] + 0.1 * torch.rand(())).clamp(0, 1)


def trained(source: Any) -> dict[str, Tensor]:
    task = pk.tasks.SimCLR(copy.deepcopy(SHARED))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        task.head = pk.models.MLPHead(64, 8)
    pretrain(task, source, steps=4, batch_size=16, device="cpu", precision="fp32", progress=False)
    return {name: value.clone() for name, value in task.state_dict().items()}


@pytest.mark.parametrize("workers", [1, 2])
def test_number_of_workers_does_not_change_the_run(workers: int) -> None:
    alone, helped = trained(Noisy()), trained(DatasetImages(Noisy(), workers))
    assert all(torch.equal(value, helped[name]) for name, value in alone.items())


@pytest.mark.slow
def test_spawned_and_forked_workers_give_the_same_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """A spawned worker inherits neither generators nor seeds of this process."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))  # where a spawned worker finds this file
    order = [torch.arange(16), torch.arange(16, 32)]
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(5)
        here = [batch.images for batch in DatasetImages(Noisy()).batches(order)]
        for method in ("fork", "spawn"):
            torch.default_generator.manual_seed(5)
            loader = partial(DataLoader, multiprocessing_context=torch.multiprocessing.get_context(method))
            monkeypatch.setattr(sources, "DataLoader", loader)
            there = [batch.images for batch in DatasetImages(Noisy(), workers=2).batches(order)]
            assert all(torch.equal(one, other) for one, other in zip(here, there, strict=True)), method
