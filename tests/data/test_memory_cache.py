"""Decoded images in memory: kept unasked, shared by workers, never in the way."""

from __future__ import annotations

import copy
import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import pretextkit as pk
from pretextkit.data import FolderImages, as_source
from pretextkit.data import _folder as folder_module
from pretextkit.data._memory_cache import MemoryCache, memory_limit
from pretextkit.errors import OptionError

from .conftest import COUNT

SIZE = 8


def all_images(images: FolderImages) -> Tensor:
    return torch.stack([images[index][0] for index in range(len(images))])


def test_files_are_decoded_once_by_default(root: Path, decoded: Counter[str]) -> None:
    truth = all_images(FolderImages(root, size=SIZE, cache=False))
    images = FolderImages(root, size=SIZE)
    decoded.clear()
    for _ in range(3):
        assert torch.equal(all_images(images), truth)
    assert set(decoded.values()) == {1}
    images[0][0].zero_()  # a caller's change stays the caller's
    assert torch.equal(all_images(images), truth)


def test_pretraining_on_a_path_decodes_each_file_once(root: Path, decoded: Counter[str]) -> None:
    task = pk.pretext_tasks["rotation"](pk.backbones["small-cnn"]())
    pk.functional.pretrain(task, root, size=SIZE, epochs=3, batch_size=2, progress=False)
    assert max(decoded.values()) <= 2  # once to look at some files, and once to train


def test_without_a_cache_files_are_decoded_each_time(root: Path, decoded: Counter[str]) -> None:
    images = FolderImages(root, size=SIZE, cache=False)
    decoded.clear()
    for _ in range(3):
        all_images(images)
    assert set(decoded.values()) == {3}


def test_sets_beyond_the_limit_are_decoded_each_time(
    root: Path, decoded: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_module, "memory_limit", lambda: COUNT * 3 * SIZE * SIZE)  # a few bytes too few
    images = FolderImages(root, size=SIZE)
    assert repr(images).endswith("0 skipped, too large for memory: see cache)")
    decoded.clear()
    all_images(images), all_images(images)
    assert set(decoded.values()) == {2}


def test_refused_memory_is_no_error(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any) -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr("pretextkit.data._memory_cache.mmap", refuse)
    assert all_images(FolderImages(root, size=SIZE)).shape == (COUNT, 3, SIZE, SIZE)


@pytest.mark.parametrize("options", [{"white": 255}, {"open": lambda path: np.asarray(Image.open(path))}])
def test_floats_and_opened_files_are_not_kept(root: Path, options: Any) -> None:
    images = FolderImages(root, size=SIZE, **options)
    assert images._cache is None
    assert torch.equal(images[1][0], images[1][0])


def test_forked_workers_fill_the_memory_of_the_parent(root: Path, decoded: Counter[str]) -> None:
    images = FolderImages(root, size=SIZE)
    truth = all_images(FolderImages(root, size=SIZE, cache=False))
    loader = torch.utils.data.DataLoader(images, batch_size=2, num_workers=2, multiprocessing_context="fork")
    assert torch.equal(torch.cat([batch for batch, _ in loader]), truth)
    decoded.clear()
    assert torch.equal(all_images(images), truth)
    assert not decoded
    source = as_source(images, workers=1)
    assert torch.equal(torch.cat([batch.images for batch in source.in_order(2)]), truth)


def test_spawned_workers_and_copies_have_no_memory(root: Path) -> None:
    images = FolderImages(root, size=SIZE)
    truth = all_images(images)
    for other in (pickle.loads(pickle.dumps(images)), copy.deepcopy(images)):
        assert other._cache is None
        assert torch.equal(all_images(other), truth)
        assert repr(other) == repr(images)
    loader = torch.utils.data.DataLoader(images, batch_size=2, num_workers=1, multiprocessing_context="spawn")
    assert torch.equal(torch.cat([batch for batch, _ in loader]), truth)


def test_changed_attributes_are_not_read_from_memory(root: Path) -> None:
    images = FolderImages(root, size=SIZE)
    truth = all_images(images)
    images.size = SIZE + 4
    assert torch.equal(all_images(images), all_images(FolderImages(root, size=SIZE + 4)))
    images.size, images.fit = SIZE, "stretch"
    assert torch.equal(all_images(images), all_images(FolderImages(root, size=SIZE, fit="stretch")))
    images.fit, images.paths = "crop", images.paths[::-1]
    assert torch.equal(all_images(images), truth.flip(0))


def test_readers_of_one_pass_keep_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any) -> None:
        raise AssertionError("memory was taken")

    monkeypatch.setattr(folder_module, "MemoryCache", refuse)
    assert pk.data.load(root, size=SIZE).train_images.shape[1:] == (3, SIZE, SIZE)
    chosen = pk.functional.select_files(root, pk.models.SmallCNN(), 2, root.parent / "to_label.csv", size=SIZE)
    assert len(chosen) == 2
    classifier = pk.inference.Classifier(pk.models.SmallCNN(), pk.models.LinearHead(256, 2))
    assert len(classifier.predict(root)) == COUNT


@pytest.mark.parametrize(("pages", "limit"), [(1000, 1_024_000), (10**9, 2_000_000_000), (None, 2_000_000_000)])
def test_limit_is_a_quarter_of_the_memory(pages: int | None, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def sysconf(name: str) -> int:
        if pages is None:
            raise ValueError(name)
        return {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": pages}[name]

    monkeypatch.setattr("os.sysconf", sysconf)
    assert memory_limit() == limit


def test_damaged_memory_is_a_missing_image() -> None:
    cache = MemoryCache(2, SIZE)
    image = torch.randint(256, (3, SIZE, SIZE), dtype=torch.uint8)
    cache.write(1, image)
    cache._map[-1] ^= 1
    assert cache.read(0) is None
    assert cache.read(1) is None
    cache.write(1, image)
    found = cache.read(1)
    assert found is not None
    assert torch.equal(found, image)


@pytest.mark.parametrize("cache", [None, 1, ["folder"]])
def test_other_caches_raise_an_error(root: Path, cache: Any) -> None:
    with pytest.raises(OptionError, match="cache to be a folder, True or False"):
        FolderImages(root, size=SIZE, cache=cache)
