"""A folder of photos with labels, a run and a classifier, which the commands read."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from pretextkit.cli import main
from tests.helpers import random_images

TRAIN = ["--epochs", "1", "--batch-size", "16", "--device", "cpu", "--precision", "fp32", "--no-progress"]
"""Flags of a short pretraining on 32 images."""


def write_photos(folder: Path, count: int, *, seed: int = 0) -> None:
    """Write photos of two kinds, red and blue, without folders of classes."""
    for number, image in enumerate(random_images(count, size=32, seed=seed)):
        image[0 if number % 2 else 2] *= 0.2
        path = folder / ("deep/er" if number % 3 else "") / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image * 255).byte().permute(1, 2, 0).numpy()).save(path)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder with photos, new-photos, labels of both, run/backbone.pt and pets.pt."""
    folder = tmp_path_factory.mktemp("prepared")
    write_photos(folder / "photos", 32)
    write_photos(folder / "new-photos", 6, seed=1)
    rows = [f"{number:02}.png,{'blue' if number % 2 else 'red'}" for number in range(24)]
    (folder / "labels.csv").write_text("\n".join(["photo,color", *rows]) + "\n")
    (folder / "new-labels.csv").write_text("\n".join(rows[:6]) + "\n")
    home = Path.cwd()
    os.chdir(folder)
    try:
        assert main(["pretrain", "photos", "--backbone", "small-cnn", "--task", "rotation", *TRAIN]) == 0
        finetune = ["finetune", "photos", "--backbone", "run", "--labels", "labels.csv", "--out", "pets.pt"]
        assert main([*finetune, "--steps", "2", "--device", "cpu", "--no-progress"]) == 0
    finally:
        os.chdir(home)
    return folder


@pytest.fixture
def copies(prepared: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Return a function that copies the prepared folder, and makes the copy the current folder."""

    def copy(name: str) -> Path:
        shutil.copytree(prepared, tmp_path / name)
        os.chdir(tmp_path / name)
        return tmp_path / name

    return copy


@pytest.fixture
def folder(copies: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Return a copy of the prepared folder, which is the current folder."""
    monkeypatch.chdir(tmp_path)  # the current folder is put back afterwards
    return copies("folder")
