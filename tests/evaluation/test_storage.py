"""Features that do not fit into memory: where they lie changes no result, and nothing of them stays."""

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
from torch.utils._python_dispatch import TorchDispatchMode

from pretextkit.errors import OptionError
from pretextkit.evaluation import _knn as knn
from pretextkit.evaluation import _storage as rows
from pretextkit.evaluation._solvers._logistic import fit_logistic
from pretextkit.evaluation._storage import Standardized, allocate, row_slices
from pretextkit.functional import extract_features, knn_probe, linear_probe
from pretextkit.testing import TinyBackbone

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
    """Let temporary files lie in a folder of the test, of which nothing may stay."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield tmp_path
    gc.collect()
    assert not any(path.is_file() for path in tmp_path.rglob("*"))  # torch makes a folder for its compiler
    assert mapped(tmp_path) == 0


def mapped(folder: Path) -> int:
    """Count the memory-mapped files of a folder, also those that have no name any more."""
    maps = Path("/proc/self/maps")
    return sum(str(folder) in line for line in maps.read_text().splitlines()) if maps.exists() else 0


@given(count=st.integers(0, 200), width=st.integers(0, 50), at_once=st.integers(1, 300))
def test_slices_hold_every_row_once_and_are_no_larger_than_they_may(count: int, width: int, at_once: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "NUMBERS_AT_ONCE", at_once)
        found = list(row_slices(count, width))
    assert [i for part in found for i in range(count)[part]] == list(range(count))
    assert all(len(range(count)[part]) in range(1, max(2, at_once // max(1, width) + 1)) for part in found)


@pytest.mark.skipif(sys.platform != "linux", reason="looks at the maps of the process, which Linux shows")
def test_rows_lie_in_a_file_only_above_the_budget(folder: Path) -> None:
    inside = allocate(5, 4, 80)
    assert mapped(folder) == 0
    outside = allocate(5, 4, 79)
    assert mapped(folder) == 1
    assert list(folder.iterdir()) == []  # without a name, so that not even a kill leaves it behind
    assert inside.shape == outside.shape == (5, 4)
    assert inside.dtype == outside.dtype == torch.float32
    view = outside.copy_(torch.arange(20.0).view(5, 4))[1:, ::2]
    del outside
    assert view.tolist() == [[4, 6], [8, 10], [12, 14], [16, 18]]  # a view keeps it


def test_chosen_rows_are_standardised_and_the_features_stay() -> None:
    features, _ = clouds(30, 0)
    before, which = features.clone(), torch.tensor([4, 4, 29, 0])
    mean, std = torch.randn(16), torch.rand(16) + 0.5
    chosen = Standardized(features, which, mean, std)
    assert (len(chosen), tuple(chosen.shape)) == (4, (4, 16))
    assert torch.equal(chosen[1:3], ((before - mean) / std)[which[1:3]])
    assert torch.equal(features, before)


@pytest.mark.skipif(sys.platform != "linux", reason="looks at the maps of the process, which Linux shows")
def test_layers_that_do_not_fit_lie_in_files(folder: Path) -> None:
    images = striped(10, 0)[0]
    torch.manual_seed(0)
    backbone = TinyBackbone()
    whole = extract_features(backbone, images, layers="all", batch_size=3).layers
    sizes = [4 * values.numel() for values in whole.values()]
    for memory, files in ((math.inf, 0), (sum(sizes), 0), (sum(sizes) - 1, 1), (sizes[0], 2), (1, 3)):
        found = extract_features(backbone, images, layers="all", batch_size=3, memory=memory).layers
        assert mapped(folder) == files
        assert list(found) == list(whole)
        assert all(torch.equal(found[name], whole[name]) for name in whole)
        del found


@pytest.mark.parametrize("few", [5000, 10])
def test_a_linear_probe_under_a_tiny_budget_is_the_same(
    folder: Path, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pretextkit.evaluation._linear_probe.FEW", few)
    monkeypatch.setattr(rows, "NUMBERS_AT_ONCE", 300)
    torch.manual_seed(0)
    backbone, train, test = TinyBackbone(), striped(60, 0), striped(40, 1)
    free, tight = (linear_probe(backbone, train, test, layers="all", memory=memory) for memory in (math.inf, 1))
    assert free.layers == tight.layers
    assert torch.equal(free.head.linear.weight, tight.head.linear.weight)
    assert torch.equal(free.predictions, tight.predictions)
    assert len(free.predictions) == 30


def test_unlabeled_rows_are_left_out_as_if_they_had_not_been_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "NUMBERS_AT_ONCE", 50)
    (images, labels), test = striped(60, 0), striped(40, 1)
    known = labels >= 0
    one, other = (
        linear_probe(lambda x: x[:, 0, :4].flatten(1), train, test)
        for train in ((images, labels), (images[known], labels[known]))
    )
    assert one.layers == other.layers
    assert torch.equal(one.head.linear.weight, other.head.linear.weight)


def test_parts_give_the_solution_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = clouds(200, 0)
    penalties = torch.tensor([1e-3, 1e-1])
    whole = fit_logistic(features, labels, 3, penalties)
    monkeypatch.setattr(rows, "NUMBERS_AT_ONCE", 100)  # six rows
    parts = fit_logistic(features, labels, 3, penalties)
    torch.testing.assert_close(parts.weight, whole.weight, rtol=0.01, atol=0.01)
    torch.testing.assert_close(parts.bias, whole.bias, rtol=0.01, atol=0.01)


@pytest.mark.parametrize("alone", [False, True])
def test_neighbors_under_a_tiny_budget_are_the_same(folder: Path, alone: bool) -> None:
    train, test = clouds(60, 0), None if alone else clouds(40, 1)
    free, tight = (knn_probe(IDENTITY, train, test, memory=memory) for memory in (math.inf, 1))
    assert torch.equal(free.predictions, tight.predictions)


class Largest(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """How many numbers the largest tensor has that an operation makes; views and files are none."""

    numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for each in found if isinstance(found, tuple | list) else [found]:
            if isinstance(each, Tensor) and not any(one.alias_info for one in func._schema.returns):
                self.numbers = max(self.numbers, each.numel())
        return found


@pytest.mark.parametrize("probe", [linear_probe, knn_probe])
def test_no_tensor_in_memory_is_as_large_as_the_features(
    probe: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "NUMBERS_AT_ONCE", 320)
    monkeypatch.setattr(knn, "CHUNK", 20)
    monkeypatch.setattr(knn, "KNOWN", 20)
    train, test = clouds(400, 0), clouds(200, 1)
    options: dict[str, Any] = {"k": 4} if probe is knn_probe else {}
    for memory, fits in ((1, True), (math.inf, False)):
        with Largest() as largest:  # type: ignore[no-untyped-call]
            probe(IDENTITY, train, test, batch_size=20, memory=memory, **options)
        assert (largest.numbers < 400 * 5) == fits  # the features are 400 x 16


def test_an_error_leaves_no_file_behind(folder: Path) -> None:
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
def test_a_budget_that_is_no_number(memory: Any) -> None:
    train = clouds(12, 0)
    for probe in (linear_probe, knn_probe, lambda *_, memory: extract_features(IDENTITY, train, memory=memory)):
        with pytest.raises(OptionError) as caught:
            probe(IDENTITY, train, train, memory=memory)
        assert str(caught.value) == (
            f"Expected memory to be a number in (0, inf], but got {memory!r}. "
            "It counts bytes, for example 2e9; the default sets no limit."
        )


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the room is not set aside beforehand")
def test_a_full_disk_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OptionError) as caught:
        allocate(10**6, 1000, 1e9)
    assert str(caught.value) == (
        f"Expected room for 4 GB of features in {folder}, but got No space left on device. "
        "Let the environment variable TMPDIR name a folder on a larger disk, or raise memory."
    )
