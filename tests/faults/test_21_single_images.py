from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pretextkit.data import as_source
from pretextkit.errors import DataError, ShapeError
from pretextkit.functional import reconstruction_anomaly_score


@pytest.fixture(name="file")
def make_file(tmp_path: Path) -> Path:
    Image.new("RGB", (64, 64), (90, 30, 30)).save(tmp_path / "part.png")
    return tmp_path / "part.png"


def count(images: Any) -> int:
    return len(reconstruction_anomaly_score(lambda values: values * 0.9, images).scores)


def test_script_reads_one_image_or_refuses_it(file: Path) -> None:
    picture = Image.open(file)
    array = np.asarray(picture)
    for one in (str(file), file, picture, [picture], [array], [file], [torch.rand(3, 64, 64)], array[None]):
        assert count(one) == 1
    with pytest.raises(ShapeError) as caught:
        count(array.transpose(2, 0, 1))
    assert caught.value.text == (
        "Expected images n h w c, n h w or n c h w, but got shape (3, 64, 64), which may be one image c h w. "
        "Pass images[None] for one color image, or images[:, None] for three gray images."
    )
    assert count(array.transpose(2, 0, 1)[None]) == 1
    assert count(array.transpose(2, 0, 1)[:, None]) == 3
    with pytest.raises(ShapeError, match="may be one image h w c"):
        count(array)


def test_three_gray_images_with_labels_are_clear() -> None:
    images = np.full((3, 8, 9), 99, np.uint8)
    assert len(as_source(images, [0, 1, 0])) == len(as_source((images, [0, 1, 0]))) == 3


@pytest.mark.parametrize("n", [1, 2, 4, 50])
def test_other_counts_of_gray_images_are_read(n: int) -> None:
    assert count(np.full((n, 8, 9), 99, np.uint8)) == n


@pytest.mark.parametrize("n", [1, 2, 3, 7])
@pytest.mark.parametrize("kind", [list, tuple])
def test_lists_of_images_are_read(tmp_path: Path, n: int, kind: Any) -> None:
    pictures = [Image.new("RGB", (8, 8), (100 + i, 0, 0)) for i in range(n)]
    files = [tmp_path / f"{i}.png" for i in range(n)]
    for picture, file in zip(pictures, files, strict=True):
        picture.save(file)
    arrays = [np.asarray(picture) for picture in pictures]
    tensors = [torch.from_numpy(array.copy()).permute(2, 0, 1) for array in arrays]
    for images in (pictures, files, [str(file) for file in files], arrays, tensors):
        if kind is tuple and n == 2 and hasattr(images[0], "shape"):
            continue  # a pair of images and labels
        batch = next(as_source(kind(images)).in_order(n))
        assert batch.images[:, 0, 0, 0].tolist() == [100 + i for i in range(n)]
        assert len(as_source(kind(images), labels=False)) == n


def test_lists_of_other_things_are_refused(tmp_path: Path, file: Path) -> None:
    with pytest.raises(DataError, match=r"paths of image files in a list, but got .*nowhere"):
        as_source([str(file), str(tmp_path / "nowhere.png")])
    with pytest.raises(ShapeError, match="of one size"):
        next(as_source([Image.new("L", (8, 8)), Image.new("L", (9, 8))]).in_order(2))
    wrong: Any
    with pytest.raises(DataError, match="got an empty list"):
        as_source([])
    for wrong in ([1, 2, 3], [None], {"images": 1}):
        with pytest.raises(DataError, match="Expected images as"):
            as_source(wrong)
