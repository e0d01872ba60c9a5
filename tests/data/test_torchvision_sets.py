from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torchvision import datasets

from pretextkit.data import load
from pretextkit.data._torchvision_sets import CATALOG
from pretextkit.errors import DataError

from . import torchvision_files as files
from .torchvision_files import TEST, TRAIN, level

SETS: dict[str, tuple[Callable[[Path], None], tuple[str, ...], tuple[int, ...]]] = {
    "cifar10": (files.cifar10, ("cat", "dog"), (3, 32, 32)),
    "cifar100": (files.cifar100, ("cat", "dog"), (3, 32, 32)),
    "emnist": (files.emnist, tuple(datasets.EMNIST.classes_split_dict["balanced"]), (1, 28, 28)),
    "eurosat": (files.eurosat, ("Forest", "River"), (3, 10, 10)),
    "fashion-mnist": (files.mnist("FashionMNIST"), tuple(datasets.FashionMNIST.classes), (1, 28, 28)),
    "food101": (files.food101, ("pizza", "waffles"), (3, 10, 10)),
    "imagenette": (
        files.imagenette,
        ("tench, Tinca tinca", "English springer, English springer spaniel"),
        (3, 10, 10),
    ),
    "kmnist": (files.mnist("KMNIST"), tuple(datasets.KMNIST.classes), (1, 28, 28)),
    "mnist": (files.mnist("MNIST"), tuple(datasets.MNIST.classes), (1, 28, 28)),
}


@pytest.fixture(autouse=True)
def trust_files(monkeypatch: pytest.MonkeyPatch) -> None:
    def is_file(path: Any, md5: str | None = None) -> bool:
        return Path(path).is_file()

    for module in files.WITHOUT_CHECKSUMS:
        monkeypatch.setattr(f"torchvision.datasets.{module}.check_integrity", is_file, raising=False)


def check_truth(images: torch.Tensor, labels: torch.Tensor) -> None:
    brightness = images.float().mean((1, 2, 3))
    expected = torch.tensor([float(level(int(label))) for label in labels])
    torch.testing.assert_close(brightness, expected, atol=3, rtol=0)


@pytest.mark.parametrize("name", SETS)
def test_load_reads_files_of_torchvision_dataset(tmp_path: Path, name: str) -> None:
    write, classes, shape = SETS[name]
    write(tmp_path)
    data = load(name, root=tmp_path)
    assert (data.name, data.class_names) == (name, classes)
    alone = CATALOG[name].test is None  # a fifth of all images, stratified, is set aside
    full = TRAIN + TEST
    counts = (round(full * 0.8), full - round(full * 0.8)) if alone else (TRAIN, TEST)
    for (images, labels), count in zip((data.train, data.test), counts, strict=True):
        assert images.dtype == torch.uint8
        assert images.shape == (2 * count, *shape)
        assert torch.bincount(labels).tolist() == [count, count]
        check_truth(images, labels)
    smaller = load(name, root=tmp_path, size=6, download=False)
    assert smaller.train_images.shape[2:] == smaller.test_images.shape[2:] == (6, 6)
    check_truth(*smaller.test)


def test_stl10_has_unlabeled_training_images(tmp_path: Path) -> None:
    files.stl10(tmp_path)
    data = load("stl-10", root=tmp_path)
    assert data.train_labels.tolist() == [0, 1] * TRAIN + [-1, -1]
    check_truth(*data.test)
    check_truth(data.train_images[:-2], data.train_labels[:-2])


def test_celeba_is_read_without_labels(tmp_path: Path) -> None:
    files.celeba(tmp_path)
    data = load("CelebA", root=tmp_path)
    assert (data.class_names, set(data.train_labels.tolist()), len(data.test_labels)) == ((), {-1}, 2 * TEST)
    check_truth(data.train_images, torch.arange(2 * TRAIN) % 2)


def test_images_become_color_of_one_size(tmp_path: Path) -> None:
    files.eurosat(tmp_path)
    odd = tmp_path / "eurosat/2750/Forest/0.jpg"
    Image.new("L", (30, 20), level(0)).save(odd)
    data = load("eurosat", root=tmp_path)
    assert data.train_images.shape[1:] == data.test_images.shape[1:] == (3, 10, 10)
    check_truth(*data.train)
    check_truth(*data.test)


def test_default_size_is_at_most_224(tmp_path: Path) -> None:
    for i in range(5):
        path = tmp_path / "eurosat/2750/River" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (300, 260), 0).save(path)
    assert load("eurosat", root=tmp_path).train_images.shape == (4, 3, 224, 224)


def test_damaged_image_is_named_by_its_index(tmp_path: Path) -> None:
    files.food101(tmp_path)
    (tmp_path / "food-101/images/pizza/train3.jpg").write_bytes(b"no picture")
    with pytest.raises(
        DataError, match=r"Expected image 3 of food101 to be decodable, but got Unid.*\. Repair the file"
    ):
        load("food101", root=tmp_path)


def test_load_beyond_memory_raises_data_error(tmp_path: Path) -> None:
    files.eurosat(tmp_path)
    text = r"memory for 14 images of 3x100000000x100000000, but got less than their 420,000,000 GB\. Choose a smaller s"
    with pytest.raises(DataError, match=text):
        load("eurosat", root=tmp_path, size=100_000_000)


def test_load_names_missing_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("scipy", "scipy.io"):
        monkeypatch.setitem(sys.modules, package, None)
    for file in CATALOG["svhn"].files:
        files.text(tmp_path / file)
    monkeypatch.setattr("torchvision.datasets.svhn.check_integrity", lambda *_: True)
    with pytest.raises(DataError) as caught:
        load("svhn", root=tmp_path)
    assert caught.value.text == (
        "Expected the package scipy, with which torchvision reads svhn, but got none. Install it: pip install scipy."
    )


def test_torchvision_without_dataset_raises_data_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(datasets, "Imagenette")
    with pytest.raises(DataError, match=r"a torchvision that has Imagenette, but got \d.*\. Update torchvision\."):
        load("imagenette", root=tmp_path)


def test_documentation_lists_catalog() -> None:
    page = Path(__file__).parents[2] / "docs/how-to/own-images.md"
    listed = page.read_text().split("```text\n")[1].split("```")[0]
    assert listed.split() == list(CATALOG)
