"""Features beyond the memory budget: results are equal, and no file stays behind."""

from __future__ import annotations

import errno
import gc
import math
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator, Tensor, nn

from pretextkit.errors import OptionError
from pretextkit.evaluation import _neighbor_search as knn
from pretextkit.evaluation import _storage as storage
from pretextkit.evaluation._solvers._logistic import fit_logistic
from pretextkit.evaluation._storage import FeatureStore, Standardized, row_slices
from pretextkit.functional import extract_features, knn_probe, linear_probe
from pretextkit.testing import TinyBackbone
from tests.helpers import LargestTensor

IDENTITY = nn.Identity()


def clouds(n: int, seed: int, d: int = 16) -> tuple[Tensor, Tensor]:
    labels = torch.arange(n) % 3
    generator = Generator().manual_seed(seed)
    return 2 * torch.eye(3, d)[labels] + torch.randn(n, d, generator=generator), labels


def striped(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Images whose class is the direction of their stripes; every fourth has no label."""
    labels = torch.arange(n) % 2
    images = torch.rand(n, 3, 16, 16, generator=Generator().manual_seed(seed))
    images[labels == 0, :, ::2] += 0.2
    images[labels == 1, :, :, ::2] += 0.2
    labels[::4] = -1
    return images / 1.2, labels


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Put temporary files into a folder of the test, and check that none stays."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield tmp_path
    gc.collect()
    assert not any(path.is_file() for path in tmp_path.rglob("*"))  # torch makes a folder for its compiler
    assert mapped(tmp_path) == 0


def mapped(folder: Path) -> int:
    """Count the memory-mapped files of a folder, nameless ones included."""
    maps = Path("/proc/self/maps")
    return sum(str(folder) in line for line in maps.read_text().splitlines()) if maps.exists() else 0


@given(count=st.integers(0, 200), width=st.integers(0, 50), at_once=st.integers(1, 300))
def test_row_slices_cover_every_row_once_within_the_limit(count: int, width: int, at_once: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(storage, "CHUNK_ENTRIES", at_once)
        found = list(row_slices(count, width))
    assert [i for part in found for i in range(count)[part]] == list(range(count))
    assert all(len(range(count)[part]) in range(1, max(2, at_once // max(1, width) + 1)) for part in found)


@pytest.mark.skipif(sys.platform != "linux", reason="looks at the maps of the process, which Linux shows")
def test_rows_are_mapped_to_a_file_only_beyond_the_budget(folder: Path) -> None:
    inside = FeatureStore(80).allocate(5, 4)
    assert mapped(folder) == 0
    outside = FeatureStore(79).allocate(5, 4)
    assert mapped(folder) == 1
    assert list(folder.iterdir()) == []  # no name: not even a kill leaves it behind
    assert inside.shape == outside.shape == (5, 4)
    assert inside.dtype == outside.dtype == torch.float32
    view = outside.copy_(torch.arange(20.0).view(5, 4))[1:, ::2]
    del outside
    assert view.tolist() == [[4, 6], [8, 10], [12, 14], [16, 18]]  # a view keeps the file


def test_standardized_selects_rows_and_keeps_features() -> None:
    features, _ = clouds(30, 0)
    before, which = features.clone(), torch.tensor([4, 4, 29, 0])
    mean, std = torch.randn(16), torch.rand(16) + 0.5
    chosen = Standardized(features, which, mean, std)
    assert (len(chosen), tuple(chosen.shape)) == (4, (4, 16))
    assert torch.equal(chosen[1:3], ((before - mean) / std)[which[1:3]])
    assert torch.equal(features, before)


@pytest.mark.skipif(sys.platform != "linux", reason="looks at the maps of the process, which Linux shows")
def test_layers_beyond_the_budget_are_mapped_to_files(folder: Path) -> None:
    images = striped(10, 0)[0]
    torch.manual_seed(0)
    backbone = TinyBackbone()
    full = extract_features(backbone, images, layers="all", batch_size=3).layers
    sizes = [4 * values.numel() for values in full.values()]
    for memory, files in ((math.inf, 0), (sum(sizes), 0), (sum(sizes) - 1, 1), (sizes[0], 2), (1, 3)):
        found = extract_features(backbone, images, layers="all", batch_size=3, memory=memory).layers
        assert mapped(folder) == files
        assert list(found) == list(full)
        assert all(torch.equal(found[name], full[name]) for name in full)
        del found


@pytest.mark.parametrize("few", [5000, 10])
def test_linear_probe_is_equal_under_a_tiny_budget(folder: Path, few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pretextkit.evaluation._logistic_classifier.FEW", few)
    monkeypatch.setattr(storage, "CHUNK_ENTRIES", 300)
    torch.manual_seed(0)
    backbone, train, test = TinyBackbone(), striped(60, 0), striped(40, 1)
    free, tight = (linear_probe(backbone, train, test, layers="all", memory=memory) for memory in (math.inf, 1))
    assert free.layers == tight.layers
    assert torch.equal(free.head.linear.weight, tight.head.linear.weight)
    assert torch.equal(free.predictions, tight.predictions)
    assert len(free.predictions) == 30


def test_probe_with_unlabeled_rows_equals_probe_without_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "CHUNK_ENTRIES", 50)
    (images, labels), test = striped(60, 0), striped(40, 1)
    labeled = labels >= 0
    one, other = (
        linear_probe(lambda x: x[:, 0, :4].flatten(1), train, test)
        for train in ((images, labels), (images[labeled], labels[labeled]))
    )
    assert one.layers == other.layers
    assert torch.equal(one.head.linear.weight, other.head.linear.weight)


def test_logistic_in_chunks_equals_the_full_solution(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = clouds(200, 0)
    penalties = torch.tensor([1e-3, 1e-1])
    full = fit_logistic(features, labels, 3, penalties)
    monkeypatch.setattr(storage, "CHUNK_ENTRIES", 100)  # six rows
    parts = fit_logistic(features, labels, 3, penalties)
    torch.testing.assert_close(parts.weight, full.weight, rtol=0.01, atol=0.01)
    torch.testing.assert_close(parts.bias, full.bias, rtol=0.01, atol=0.01)


@pytest.mark.parametrize("alone", [False, True])
def test_knn_probe_is_equal_under_a_tiny_budget(folder: Path, alone: bool) -> None:
    train, test = clouds(60, 0), None if alone else clouds(40, 1)
    free, tight = (knn_probe(IDENTITY, train, test, memory=memory) for memory in (math.inf, 1))
    assert torch.equal(free.predictions, tight.predictions)


@pytest.mark.parametrize("probe", [linear_probe, knn_probe])
def test_probes_hold_no_tensor_of_the_size_of_the_features(
    probe: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "CHUNK_ENTRIES", 320)
    monkeypatch.setattr(knn, "QUERY_CHUNK", 20)
    monkeypatch.setattr(knn, "REFERENCE_CHUNK", 20)
    train, test = clouds(400, 0), clouds(200, 1)
    options: dict[str, Any] = {"k": 4} if probe is knn_probe else {}
    for memory, fits in ((1, True), (math.inf, False)):
        with LargestTensor() as largest:  # type: ignore[no-untyped-call]
            probe(IDENTITY, train, test, batch_size=20, memory=memory, **options)
        assert (largest.numbers < 400 * 5) == fits  # the features are 400 x 16


def test_error_leaves_no_file_behind(folder: Path) -> None:
    seen: list[int] = []

    def fails(batch: Tensor) -> Tensor:
        seen.append(mapped(folder))
        if len(seen) == 3:
            raise ZeroDivisionError
        return batch

    with pytest.raises(ZeroDivisionError):
        linear_probe(fails, clouds(40, 0), clouds(40, 0), batch_size=10, memory=100)
    if sys.platform == "linux":
        assert seen == [0, 1, 1]


@pytest.mark.parametrize("memory", [0, -1e9, math.nan, "2GB", None])
def test_invalid_memory_is_refused(memory: Any) -> None:
    train = clouds(12, 0)
    for probe in (linear_probe, knn_probe, lambda *_, memory: extract_features(IDENTITY, train, memory=memory)):
        with pytest.raises(OptionError) as caught:
            probe(IDENTITY, train, train, memory=memory)
        assert caught.value.text == (
            f"Expected memory to be a number in (0, inf], but got {memory!r}. "
            "It counts bytes, for example 2e9; the default sets no limit."
        )


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the room is not set aside beforehand")
def test_full_disk_raises_option_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OptionError) as caught:
        FeatureStore(1e9).allocate(10**6, 1000)
    assert caught.value.text == (
        f"Expected room for 4 GB of features in {folder}, but got No space left on device. "
        "Set the environment variable TMPDIR to a folder on a larger disk, or raise memory."
    )


def test_feature_store_counts_kept_rows_and_not_scratch_rows() -> None:
    store = FeatureStore(100)
    assert store.scratch(5, 4).shape == (5, 4)
    assert store.free == 100
    store.allocate(5, 4)
    assert store.free == 20
    store.allocate(5, 4)  # in a file
    assert store.free == 20
    assert [part.free for part in FeatureStore(90).split(3)] == [30, 30, 30]
    assert FeatureStore().split(2)[0].free == math.inf
