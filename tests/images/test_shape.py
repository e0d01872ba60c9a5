"""Images that are not square, of several sizes, and larger than in training."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import pretextkit as pk
from pretextkit import functional
from pretextkit.data import FolderImages, as_source
from pretextkit.errors import DataWarning, ShapeError
from pretextkit.functional import extract_features, pretrain
from pretextkit.models import SmallCNN
from pretextkit.testing import TinyBackbone, toy_images
from tests.helpers import generator
from tests.images.tasks import build

SQUARE_ONLY = {"rotation"}
OBLONG = toy_images(12, size=(48, 64), generator=generator())


@pytest.mark.parametrize("name", list(pk.pretext_tasks))
@pytest.mark.parametrize("size", [(48, 64), (64, 48)])
def test_tasks_take_oblong_images_or_say_why_not(name: str, size: tuple[int, int]) -> None:
    images = toy_images(4, size=size, generator=generator())
    task = build(name)
    if name in SQUARE_ONLY:
        with pytest.raises(ShapeError, match=r"Expected square images b c h h, but got shape .*center_crop"):
            task.step(images, generator())
        return
    output = task.step(images, generator())
    assert output.loss.isfinite()
    torch.autograd.backward(output.loss)


def test_reconstructions_keep_the_shape() -> None:
    for name in ("autoencoder", "denoising", "context-encoder"):
        task: Any = pk.pretext_tasks.create(name, TinyBackbone())
        assert task.reconstruct(OBLONG[:2, :, :, :51]).shape == (2, 3, 48, 51)


def test_oblong_images_go_through_every_measure() -> None:
    backbone = TinyBackbone()
    labels = torch.arange(12) % 2
    pretrain(pk.tasks.SimCLR(backbone), OBLONG, steps=2, batch_size=6, progress=False)
    assert functional.knn_probe(backbone, (OBLONG, labels), k=1).accuracy >= 0
    assert functional.linear_probe(backbone, (OBLONG, labels)).accuracy >= 0
    masks = (OBLONG[:, 0] > 0.5).long()
    assert functional.segmentation_probe(backbone, (OBLONG, masks), (OBLONG, masks), steps=1).pixel_accuracy >= 0
    for result in (
        functional.patch_anomaly_score(backbone, OBLONG[:8], OBLONG[8:]),
        functional.reconstruction_anomaly_score(pk.tasks.Autoencoder(backbone).reconstruct, OBLONG[8:]),
    ):
        assert result.maps is not None
        assert result.maps.shape == (4, 48, 64)
    with pytest.raises(ShapeError, match="square images"):
        functional.rotation_anomaly_score(pk.tasks.Rotation(backbone), OBLONG)


def save(path: Path, height: int, width: int) -> None:
    pixels = np.random.default_rng(height * width).integers(0, 256, (height, width, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(path)


def test_default_size_is_the_median_shorter_side_at_most_224(tmp_path: Path) -> None:
    for number, size in enumerate([(20, 30), (40, 36), (50, 50), (64, 60), (500, 400)]):
        save(tmp_path / f"{number}.png", *size)
    folder = FolderImages(tmp_path)
    assert folder.size == 50
    assert {tuple(folder[i][0].shape) for i in range(5)} == {(3, 50, 50)}
    assert FolderImages([tmp_path / "4.png"] * 2).size == 224
    assert as_source(tmp_path, size=24).in_memory().images.shape == (5, 3, 24, 24)
    with pytest.raises(ShapeError, match=r"of one size in a dataset, but got .*FolderImages\(root, size=\.\.\.\)"):
        as_source(sorted(tmp_path.iterdir())).in_memory()
    same = as_source([tmp_path / "0.png", tmp_path / "0.png"])
    assert same.in_memory().images.shape == (2, 3, 20, 30)


def trained(size: int | tuple[int, int]) -> SmallCNN:
    task = pk.tasks.SimCLR(SmallCNN())
    pretrain(task, toy_images(8, size=size, generator=generator()), steps=1, batch_size=8, progress=False)
    return task.backbone


def images_of(size: int | tuple[int, int]) -> Tensor:
    return toy_images(4, size=size, generator=generator())


@pytest.mark.parametrize(("before", "after"), [(16, 32), (16, 40), ((16, 24), (32, 48)), (16, (16, 64))])
def test_images_twice_as_large_as_in_training_warn_once(tmp_path: Path, before: Any, after: Any) -> None:
    backbone = trained(before)
    pk.save_backbone(backbone, tmp_path / "a.pt")
    for each in (backbone, pk.load_backbone(tmp_path / "a.pt")):
        with pytest.warns(DataWarning, match=r"was trained on images of \d+x\d+ pixels, and gets \d+x\d+") as caught:
            extract_features(each, images_of(after), batch_size=1)
        assert len(caught) == 1
        with pytest.warns(DataWarning, match="was trained on images"):
            functional.patch_anomaly_score(each, images_of(after), images_of(after))


@pytest.mark.parametrize(("before", "after"), [(16, 16), (16, 31), (32, 16), ((16, 24), (24, 40)), (16, (16, 48))])
def test_images_of_similar_or_smaller_size_do_not_warn(before: Any, after: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        extract_features(trained(before), images_of(after))


def test_warning_of_larger_images_names_height_before_width() -> None:
    with pytest.warns(DataWarning, match=r"on images of 16x24 pixels, and gets 40x48.*\(size=\(16, 24\)\)"):
        extract_features(trained((16, 24)), images_of((40, 48)))


def test_networks_without_a_known_size_do_not_warn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        extract_features(SmallCNN(), images_of(64))
        extract_features(lambda images: images.mean((2, 3)), images_of(64))
