"""From images to a result: tiles of one channel, oblong streets, satellite bands and deep files."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import pretextkit as pk
from pretextkit import functional
from pretextkit.data import FolderImages, as_source
from pretextkit.models import LinearHead, SmallCNN
from pretextkit.testing import toy_images
from tests.helpers import generator

DATA = Path(os.environ.get("PRETEXTKIT_DATA", "no folder"))


def bands_of(photos: Tensor) -> Tensor:
    """Make thirteen bands of 12 bits from photos ``n 3 h w``: mixtures of their colors, with bands of small range."""
    mixture = torch.rand(13, 3, generator=generator(1))
    levels = torch.linspace(0.3, 1, 13).view(1, -1, 1, 1)
    return (4095 * levels * torch.einsum("nchw,bc->nbhw", photos, mixture / mixture.sum(1, keepdim=True))).to(
        torch.int32
    )


def test_bands_made_from_photos_train_score_and_are_saved(tmp_path: Path) -> None:
    """The library's photos are toy images; their thirteen bands are mixtures of colors, not measurements."""
    images = bands_of(toy_images(48, size=32, generator=generator()))
    labels = torch.arange(48) % 2
    images[labels == 1, 12] //= 4  # only the last band tells the classes apart
    np.savez(tmp_path / "bands.npz", train_images=images.numpy().astype(np.uint16), train_labels=labels.numpy())
    source = as_source(tmp_path / "bands.npz", white=4095)
    assert next(source.in_order(4)).images.shape == (4, 13, 32, 32)
    backbone = SmallCNN(in_channels=13)
    result = functional.pretrain(
        pk.tasks.VICReg(backbone), source, steps=20, batch_size=16, progress=False, checkpoint=tmp_path / "run"
    )
    assert np.isfinite(result.history.rows[-1]["loss"])
    assert backbone.normalization.mean.shape == (13,)
    loaded = pk.load_backbone(tmp_path / "run")
    assert functional.knn_probe(loaded, source, k=3).accuracy > 0.7
    tuned = functional.freeze_and_finetune(loaded, LinearHead(256, 2), source, steps=10, batch_size=16, progress=False)
    assert float((tuned.classifier.predict(source).labels == labels).float().mean()) > 0.7


def read_npy(path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.uint16]]:
    values: np.ndarray[tuple[int, ...], np.dtype[np.uint16]] = np.load(path)
    return values


def test_deep_files_of_bands_train_in_workers(tmp_path: Path) -> None:
    for number, image in enumerate(bands_of(toy_images(12, size=(24, 36), generator=generator()))):
        (tmp_path / f"class{number % 2}").mkdir(exist_ok=True)
        np.save(tmp_path / f"class{number % 2}" / f"{number}.npy", image.permute(1, 2, 0).numpy().astype(np.uint16))
    folder = FolderImages(tmp_path, open=read_npy, white=4095, size=24)
    task = pk.tasks.ContextEncoder(SmallCNN(in_channels=13))
    functional.pretrain(task, folder, steps=2, batch_size=6, workers=2, progress=False)
    scores = functional.reconstruction_anomaly_score(task.reconstruct, folder)
    assert scores.maps is not None
    assert folder.to_file_pixels(scores.maps[0], 0).shape == (24, 36)


def test_gray_tiles_stay_gray() -> None:
    tiles = toy_images(24, size=32, channels=1, generator=generator())
    broken = tiles[16:].clone()
    broken[:, :, 8:16, 8:16] = 1 - broken[:, :, 8:16, 8:16]
    task = pk.tasks.Autoencoder(SmallCNN(in_channels=1))
    functional.pretrain(task, tiles[:16], steps=4, batch_size=8, progress=False)
    for score in (
        functional.patch_anomaly_score(task.backbone, tiles[:16], broken),
        functional.reconstruction_anomaly_score(task.reconstruct, broken),
    ):
        assert score.maps is not None
        assert score.maps.shape == (8, 32, 32)


def test_oblong_streets_are_segmented() -> None:
    images = toy_images(16, size=(48, 64), generator=generator())
    masks = (torch.arange(48).view(1, 48, 1) > 24).long().expand(16, 48, 64).contiguous()
    task = pk.tasks.JigsawContext(SmallCNN())
    functional.pretrain(task, images, steps=4, batch_size=8, progress=False)
    result = functional.segmentation_probe(task.backbone, (images, masks), (images[:4], masks[:4]), steps=20)
    assert result.pixel_accuracy > 0.6


@pytest.mark.data
@pytest.mark.skipif(not (DATA / "magnetic-tile.npz").is_file(), reason="no magnetic tiles in PRETEXTKIT_DATA")
def test_magnetic_tiles_train_in_one_channel() -> None:
    data = pk.data.load(DATA / "magnetic-tile.npz", size=32)
    assert data.train_images.shape[1:] == (1, 32, 32)
    task = pk.tasks.SimSiam(SmallCNN(in_channels=1))
    functional.pretrain(task, data.train_images[:256], steps=10, batch_size=32, progress=False)
    assert task.backbone.normalization.channels == 1
    scores = functional.neighbor_anomaly_score(task.backbone, data.train_images[:256], data.test_images[:64])
    assert bool(scores.scores.isfinite().all())
