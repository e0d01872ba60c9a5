"""Orientation of the camera in images of Pillow, as in files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import Dataset

from pretextkit.data import FolderImages, ImageFormat, as_source, select_keys
from pretextkit.data._image_conversion import ORIENTATION
from pretextkit.functional import Classifier
from pretextkit.models import LinearHead
from pretextkit.testing import TinyBackbone


def photo() -> Image.Image:
    rows = np.random.default_rng(0).integers(0, 256, (6, 4, 3), dtype=np.uint8)
    return Image.fromarray(rows.repeat(4, 0).repeat(4, 1))


def turned(folder: Path, orientation: int, suffix: str) -> str:
    picture = photo()
    exif = picture.getexif()
    exif[ORIENTATION] = orientation
    picture.save(folder / f"e{suffix}", exif=exif)
    return str(folder / f"e{suffix}")


def read(images: Any, **options: Any) -> Tensor:
    return as_source(images, **options).in_memory().images


class Photos(Dataset[Any]):
    def __init__(self, path: str) -> None:
        self.path = path

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Any:
        return Image.open(self.path), 0


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_of_pillow_are_turned_like_files(orientation: int, suffix: str, tmp_path: Path) -> None:
    path = turned(tmp_path, orientation, suffix)
    for options in ({}, {"white": 255.0}):
        upright = read([path], **options)
        assert upright.shape[2:] == ((16, 24) if orientation > 4 else (24, 16))
        assert torch.equal(read([Image.open(path)], **options), upright)
        assert torch.equal(read(Image.open(path), **options), upright)
        assert torch.equal(read([{"image": Image.open(path)}], **options), upright)
        assert torch.equal(read([(Image.open(path), 0)], **options), upright)
        assert torch.equal(read(Photos(path), **options), upright)
        assert torch.equal(read(select_keys([{"x": Image.open(path)}], image="x"), **options), upright)
        assert torch.equal(read([ImageOps.exif_transpose(Image.open(path))], **options), upright)  # once


def test_prediction_of_an_image_is_that_of_its_file(tmp_path: Path) -> None:
    path = turned(tmp_path, 6, ".jpg")
    classifier = Classifier(TinyBackbone(), LinearHead(64, 2), image_format=ImageFormat(24, 16, 3, "stretch"))
    expected = classifier.predict_proba([path])
    assert torch.equal(classifier.predict_proba([Image.open(path)]), expected)
    assert torch.equal(classifier.predict_proba(Image.open(path)), expected)
    assert not torch.equal(classifier.predict_proba([photo()]), expected)


def test_function_that_opens_files_gives_upright_images(tmp_path: Path) -> None:
    path = turned(tmp_path, 6, ".png")
    for options in ({}, {"white": 255.0}):
        opened = FolderImages(tmp_path, size=16, open=Image.open, **options)  # type: ignore[arg-type]
        assert torch.equal(opened[0][0], FolderImages([path], size=16, **options)[0][0])  # type: ignore[arg-type]


def test_damaged_exif_leaves_the_pixels() -> None:
    picture = photo()
    expected = read([photo()])
    picture.info["exif"] = b"Exif\0\0garbage!!"
    assert torch.equal(read([picture]), expected)
