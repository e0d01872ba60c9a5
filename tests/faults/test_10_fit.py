from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from pretextkit.data import FolderImages, as_source, load, load_segmentation
from pretextkit.errors import DataWarning, OptionError, ShapeError
from pretextkit.functional import (
    detection_metrics,
    mahalanobis_anomaly_score,
    neighbor_anomaly_score,
    patch_anomaly_score,
    reconstruction_anomaly_score,
)


def save(folder: Path, count: int, defect: bool = False, size: tuple[int, int] = (64, 160), start: int = 0) -> None:
    folder.mkdir(parents=True)
    for i in range(start, start + count):
        wide = np.random.default_rng(i).normal(120, 6, (*size, 3)).clip(0, 255).astype(np.uint8)
        if defect:
            wide[20:44, 4:28] = 0  # near the left edge
        Image.fromarray(wide).save(folder / f"{i:03}.png")


def strip(root: Path) -> Path:
    save(root / "train/good", 40)
    save(root / "test/good", 20, start=40)
    save(root / "test/hole", 20, defect=True, start=60)
    return root


def test_script_finds_defects_near_edges(tmp_path: Path) -> None:
    data = load(strip(tmp_path), size=64)
    good, hole = (
        neighbor_anomaly_score(nn.Flatten(), data.train_images, data.test_images[data.test_labels == k]) for k in (0, 1)
    )
    assert detection_metrics(good, hole).auroc == 1.0


@pytest.mark.parametrize("score", [neighbor_anomaly_score, mahalanobis_anomaly_score])
def test_anomaly_functions_read_full_images_of_path(tmp_path: Path, score: Any) -> None:
    strip(tmp_path)
    pool = nn.Sequential(nn.AdaptiveMaxPool2d(8), nn.Flatten())
    small = lambda images: -pool(-images)[:, :64]  # noqa: E731
    good, hole = (score(small, tmp_path / "train", tmp_path / "test" / kind) for kind in ("good", "hole"))
    assert detection_metrics(good, hole).auroc == 1.0


def test_maps_of_path_cover_full_images(tmp_path: Path) -> None:
    strip(tmp_path)
    patches = patch_anomaly_score(nn.AvgPool2d(4), tmp_path / "train", tmp_path / "test/hole", memory_bank_size=4000)
    errors = reconstruction_anomaly_score(lambda images: torch.full_like(images, 0.47), tmp_path / "test/hole")
    photos = FolderImages(tmp_path / "test/hole", fit="pad")
    for result in (patches, errors):
        assert result.maps is not None
        pixels = photos.to_file_pixels(result.maps[3], 3)
        assert pixels.shape == (64, 160)
        row, column = divmod(int(pixels.argmax()), 160)
        assert 14 <= row <= 50  # cells of 10 pixels
        assert column <= 34


def test_oblong_images_warn_and_name_fit(tmp_path: Path) -> None:
    save(tmp_path / "a", 3)
    for read in (lambda **o: FolderImages(tmp_path, size=32, **o), lambda **o: load(tmp_path, size=32, **o)):
        with pytest.warns(DataWarning, match=r'center crop removes 60% of a typical image in .*fit="pad"'):
            read()
        for fit in ("crop", "pad", "stretch"):
            read(fit=fit)
    with pytest.warns(DataWarning, match="removes 60%"):
        as_source(tmp_path)
    assert len(as_source(tmp_path, fit="pad")) == 3


@pytest.mark.parametrize("size", [(40, 60), (60, 40), (48, 64), (50, 50)])
def test_ordinary_photos_do_not_warn(tmp_path: Path, size: tuple[int, int]) -> None:
    save(tmp_path / "a", 3, size=size)
    FolderImages(tmp_path)
    load(tmp_path, size=16)


def test_single_panorama_does_not_warn(tmp_path: Path) -> None:
    save(tmp_path / "a", 5, size=(40, 50))
    save(tmp_path / "b", 1, size=(20, 200))
    FolderImages(tmp_path, size=16)


def halves(path: Path, size: tuple[int, int]) -> None:
    pixels = np.full((*size, 3), 50, np.uint8)
    pixels[:, size[1] // 2 :] = 250
    Image.fromarray(pixels).save(path)


@pytest.mark.parametrize("size", [(20, 60), (60, 20), (33, 47), (2, 300), (31, 31)])
@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_map_returns_to_file_pixels(tmp_path: Path, size: tuple[int, int], fit: Any) -> None:
    halves(tmp_path / "a.png", size)
    photos = FolderImages(tmp_path, size=30, fit=fit)
    image = photos[0][0]
    assert image.shape == (3, 30, 30)
    pixels = photos.to_file_pixels(image[0].float(), 0)
    assert pixels.shape == size
    visible = ~pixels.isnan()
    assert bool(visible.all()) == (fit != "crop" or size[0] == size[1])
    assert visible.sum() >= min(size) ** 2
    expected = torch.from_numpy(np.asarray(Image.open(tmp_path / "a.png"))[..., 0].copy()).float()
    assert (pixels - expected)[visible].abs().mean() < 25


def test_map_follows_exif_orientation(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("L", (30, 20), 200).save(tmp_path / "a.png", exif=exif)
    photos = FolderImages(tmp_path, size=10, fit="pad")
    assert photos.to_file_pixels(torch.rand(10, 10), 0).shape == (30, 20)
    with pytest.raises(ShapeError, match="Expected a square map h w"):
        photos.to_file_pixels(torch.rand(2, 10, 10), 0)


def test_pad_repeats_border_and_keeps_all(tmp_path: Path) -> None:
    halves(tmp_path / "a.png", (10, 40))
    image = FolderImages(tmp_path, size=20, fit="pad")[0][0]
    assert (image[0, :, :9] == 50).all()
    assert (image[0, :, 11:] == 250).all()


def test_wrong_fit_is_refused(tmp_path: Path) -> None:
    halves(tmp_path / "a.png", (10, 10))
    wrong: Any = "whole"
    for read in (FolderImages, load, as_source):
        with pytest.raises(OptionError, match='Expected fit "crop", "pad" or "stretch", but got \'whole\''):
            read(tmp_path, fit=wrong)


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_segmentation_masks_follow_fit(tmp_path: Path, fit: Any) -> None:
    images = np.full((2, 8, 16, 3), 50, np.uint8)
    masks = np.zeros((2, 8, 16), np.uint8)
    images[:, :, 8:], masks[:, :, 8:] = 250, 1
    np.savez(tmp_path / "a.npz", train_images=images, train_masks=masks, test_images=images, test_masks=masks)
    train = load_segmentation(tmp_path / "a.npz", size=8, fit=fit).train
    assert train.masks.shape == (2, 8, 8)
    assert (train.masks == 255).any() == (fit == "pad")
    inside = train.masks != 255
    assert torch.equal(train.images[:, 0][inside] > 150, train.masks[inside] == 1)
