"""The cache of decoded images: found, completed, never trusted."""

from __future__ import annotations

import errno
import os
import pickle
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from pretextkit.data import FolderImages, as_source
from pretextkit.errors import DataError

from .conftest import COUNT

SIZE = 8


def open_folder(root: Path, **options: Any) -> FolderImages:
    return FolderImages(root, **{"size": SIZE, "cache": root.parent / "cache", **options})


def all_images(images: FolderImages) -> Tensor:
    return torch.stack([images[index][0] for index in range(len(images))])


def cache_file(root: Path) -> Path:
    (path,) = (root.parent / "cache").iterdir()
    return path


def expected(root: Path, **options: Any) -> Tensor:
    return all_images(FolderImages(root, **{"size": SIZE, **options}))


def test_second_epoch_reads_the_same_without_decoding(root: Path, decoded: Counter[str]) -> None:
    truth = expected(root)
    images = open_folder(root)
    decoded.clear()
    assert torch.equal(all_images(images), truth)
    assert sum(decoded.values()) == COUNT
    assert torch.equal(all_images(images), truth)
    assert torch.equal(all_images(open_folder(root)), truth)  # as another process would
    assert sum(decoded.values()) == COUNT
    assert images[-1][0].equal(truth[-1])
    with pytest.raises(IndexError):
        images[COUNT]


def test_images_of_cache_may_be_changed_in_place(root: Path) -> None:
    images = open_folder(root)
    truth = all_images(images)
    images[0][0].zero_()
    assert torch.equal(images[0][0], truth[0])


@pytest.mark.parametrize("position", [0, 25, 90, 130, 500, -1])
def test_flipped_byte_is_found_and_repaired(root: Path, position: int, decoded: Counter[str]) -> None:
    truth = all_images(open_folder(root))
    path = cache_file(root)
    content = bytearray(path.read_bytes())
    content[position] ^= 0x40
    path.write_bytes(content)
    decoded.clear()
    assert torch.equal(all_images(open_folder(root)), truth)
    assert 1 <= sum(decoded.values()) <= COUNT
    decoded.clear()
    assert torch.equal(all_images(open_folder(root)), truth)
    assert not decoded


@pytest.mark.parametrize("content", [b"", b"text", b"\0" * 4000, "half"])
def test_foreign_or_truncated_cache_is_built_again(root: Path, content: bytes | str) -> None:
    truth = all_images(open_folder(root))
    path = cache_file(root)
    path.write_bytes(path.read_bytes()[:-700] if isinstance(content, str) else content)
    assert torch.equal(all_images(open_folder(root)), truth)


def test_changed_file_makes_cache_stale(root: Path) -> None:
    all_images(open_folder(root))
    Image.new("RGB", (20, 24), (200, 0, 0)).save(root / "2.png")
    assert torch.equal(all_images(open_folder(root)), expected(root))
    os.utime(root / "1.png", ns=(1, 1))
    (root / "0.png").unlink()
    assert torch.equal(all_images(open_folder(root)), expected(root))
    shutil.copy(root / "1.png", root / "0b.png")
    assert torch.equal(all_images(open_folder(root)), expected(root))
    assert len(list((root.parent / "cache").iterdir())) == 1  # one file for one folder


@pytest.mark.parametrize("options", [{"size": 6}, {"fit": "pad"}, {"fit": "stretch"}])
def test_other_options_have_a_file_of_their_own(root: Path, options: Any) -> None:
    first = all_images(open_folder(root))
    assert torch.equal(all_images(open_folder(root, **options)), expected(root, **options))
    assert torch.equal(all_images(open_folder(root)), first)
    assert len(list((root.parent / "cache").iterdir())) == 2


def test_labels_are_not_in_the_cache(root: Path) -> None:
    all_images(open_folder(root))
    assert open_folder(root, labels={"0": "a", "1": "b"})[1][1] == 1
    assert len(list((root.parent / "cache").iterdir())) == 1


def test_replaced_cache_is_kept_by_those_who_opened_it(root: Path) -> None:
    old = open_folder(root)
    truth = [image.clone() for image in all_images(old)[:2]]
    Image.new("RGB", (20, 24), (200, 0, 0)).save(root / "4.png")
    new = open_folder(root)
    all_images(new)
    old._cache.write(3, torch.zeros(3, SIZE, SIZE, dtype=torch.uint8))  # type: ignore[union-attr]
    assert torch.equal(all_images(new), expected(root))
    assert torch.equal(torch.stack(truth), torch.stack([old[0][0], old[1][0]]))


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_fill_one_cache(root: Path, context: str, decoded: Counter[str]) -> None:
    images = open_folder(root)
    truth = expected(root)
    loader = torch.utils.data.DataLoader(images, batch_size=2, num_workers=2, multiprocessing_context=context)
    assert torch.equal(torch.cat([batch for batch, _ in loader]), truth)
    decoded.clear()
    assert torch.equal(all_images(images), truth)
    assert not decoded


def test_cache_is_pickled_by_name(root: Path) -> None:
    images = open_folder(root)
    truth = all_images(images)
    copy = pickle.loads(pickle.dumps(images))
    assert torch.equal(all_images(copy), truth)
    cache_file(root).unlink()
    assert torch.equal(all_images(pickle.loads(pickle.dumps(images))), truth)


def test_full_disk_raises_clear_error(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(root)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=100))
    with pytest.raises(DataError, match=r"0 MB for a cache of images in .*cache, but got 0 MB free. Choose a smaller"):
        open_folder(root)
    monkeypatch.undo()
    images = open_folder(root)

    def full(*arguments: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(DataError, match=r"for a cache of images in .*, but got .* MB free"):
        images[0]
    monkeypatch.undo()
    assert torch.equal(all_images(images), expected(root))


def test_failed_allocation_leaves_no_file(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(DataError, match="MB free"):
        open_folder(root)
    assert not list((root.parent / "cache").iterdir())


def test_cache_that_is_no_folder_raises_error(root: Path) -> None:
    with pytest.raises(DataError, match=r"a cache that can be written at .*, but got FileExistsError"):
        open_folder(root, cache=root / "0.png")


def test_source_reads_the_cache_with_workers(root: Path, decoded: Counter[str]) -> None:
    truth = expected(root)
    source = as_source(open_folder(root), workers=1)
    for _ in range(2):
        assert torch.equal(torch.cat([batch.images for batch in source.in_order(2)]), truth)
