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
from pretextkit.data._torchvision_catalog import CATALOG
from pretextkit.errors import DataError

from . import torchvision_files as files
from .torchvision_files import TEST, TRAIN, level

DIGITS = tuple("0123456789")
MNIST_NAMES = tuple(datasets.MNIST.classes)

SETS: dict[str, tuple[Callable[[Path], None], tuple[str, ...], tuple[int, ...]]] = {
    "caltech256": (files.caltech256, ("001.ak47", "002.flag"), (3, 10, 10)),
    "cifar10": (files.cifar10, ("cat", "dog"), (3, 32, 32)),
    "cifar100": (files.cifar100, ("cat", "dog"), (3, 32, 32)),
    "clevr-classification": (files.clevr, ("3", "4"), (3, 10, 10)),
    "country211": (files.country211, ("AD", "AE"), (3, 10, 10)),
    "dtd": (files.dtd, ("banded", "woven"), (3, 10, 10)),
    "emnist": (files.emnist("balanced"), tuple(datasets.EMNIST.classes_split_dict["balanced"]), (1, 28, 28)),
    "emnist-digits": (files.emnist("digits"), DIGITS, (1, 28, 28)),
    "emnist-letters": (files.emnist("letters", first=1), tuple("abcdefghijklmnopqrstuvwxyz"), (1, 28, 28)),
    "eurosat": (files.eurosat, ("Forest", "River"), (3, 10, 10)),
    "fashion-mnist": (files.mnist("FashionMNIST"), tuple(datasets.FashionMNIST.classes), (1, 28, 28)),
    "fer2013": (files.fer2013, ("0", "1"), (3, 48, 48)),
    "fgvc-aircraft": (files.fgvc_aircraft, ("707-320", "Yak-42"), (3, 10, 10)),
    "food101": (files.food101, ("pizza", "waffles"), (3, 10, 10)),
    "gtsrb": (files.gtsrb, ("0", "1"), (3, 10, 10)),
    "imagenet": (files.imagenet, ("tench, Tinca tinca", "goldfish"), (3, 10, 10)),
    "imagenette": (
        files.imagenette,
        ("tench, Tinca tinca", "English springer, English springer spaniel"),
        (3, 10, 10),
    ),
    "inaturalist": (files.inaturalist, ("00000_Animalia_A_B_C_D_E_f", "00001_Plantae_A_B_C_D_E_f"), (3, 10, 10)),
    "kmnist": (files.mnist("KMNIST"), tuple(datasets.KMNIST.classes), (1, 28, 28)),
    "lfw-people": (files.lfw_people, ("Ada", "Bob"), (3, 10, 10)),
    "mnist": (files.mnist("MNIST"), MNIST_NAMES, (1, 28, 28)),
    "oxford-iiit-pet": (files.oxford_iiit_pet, ("Abyssinian", "Basset Hound"), (3, 10, 10)),
    "places365": (files.places365, ("/a/airfield", "/z/zen_garden"), (3, 10, 10)),
    "qmnist": (files.qmnist, MNIST_NAMES, (1, 28, 28)),
    "rendered-sst2": (files.rendered_sst2, ("negative", "positive"), (3, 10, 10)),
    "sun397": (files.sun397, ("abbey", "barn/indoor"), (3, 10, 10)),
    "usps": (files.usps, ("0", "1"), (1, 16, 16)),
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
def test_files_where_torchvision_looks_are_read(tmp_path: Path, name: str) -> None:
    write, classes, shape = SETS[name]
    write(tmp_path)
    data = load(name, root=tmp_path)
    assert (data.name, data.class_names) == (name, classes)
    alone = CATALOG[name].test is None  # then a fifth of all is set aside, of each class its share
    whole = TRAIN + TEST
    counts = (round(whole * 0.8), whole - round(whole * 0.8)) if alone else (TRAIN, TEST)
    for (images, labels), count in zip((data.train, data.test), counts, strict=True):
        assert images.dtype == torch.uint8
        assert images.shape == (2 * count, *shape)
        assert torch.bincount(labels).tolist() == [count, count]
        check_truth(images, labels)
    smaller = load(name, root=tmp_path, size=6, download=False)
    assert smaller.train_images.shape[2:] == smaller.test_images.shape[2:] == (6, 6)
    check_truth(*smaller.test)


def test_binary_pixels_of_semeion(tmp_path: Path) -> None:
    files.semeion(tmp_path)
    data = load("SEMEION", root=tmp_path)
    assert data.class_names == ("0", "1")
    for images, labels in (data.train, data.test):
        assert torch.equal(images[:, 0, 0, 0], (labels * 255).to(torch.uint8))


def test_unlabeled_images_of_stl10(tmp_path: Path) -> None:
    files.stl10(tmp_path)
    data = load("stl-10", root=tmp_path)
    assert data.train_labels.tolist() == [0, 1] * TRAIN + [-1, -1]
    check_truth(*data.test)
    check_truth(data.train_images[:-2], data.train_labels[:-2])


def test_celeba_has_no_classes(tmp_path: Path) -> None:
    files.celeba(tmp_path)
    data = load("CelebA", root=tmp_path)
    assert (data.class_names, set(data.train_labels.tolist()), len(data.test_labels)) == ((), {-1}, 2 * TEST)
    check_truth(data.train_images, torch.arange(2 * TRAIN) % 2)


def test_fer2013_as_kaggle_gives_it_has_no_test_labels(tmp_path: Path) -> None:
    rows = ["emotion,pixels", *(f"{label},{' '.join([str(level(label))] * 48**2)}" for label in (0, 1))]
    files.text(tmp_path / "fer2013/train.csv", *rows)
    files.text(tmp_path / "fer2013/test.csv", *(row.split(",")[1] for row in rows))
    data = load("fer2013", root=tmp_path)
    assert (data.train_labels.tolist(), data.test_labels.tolist()) == ([0, 1], [-1, -1])


def test_gray_pictures_of_a_set_become_color_and_sizes_one(tmp_path: Path) -> None:
    files.eurosat(tmp_path)
    odd = tmp_path / "eurosat/2750/Forest/0.jpg"
    Image.new("L", (30, 20), level(0)).save(odd)
    data = load("eurosat", root=tmp_path)
    assert data.train_images.shape[1:] == data.test_images.shape[1:] == (3, 10, 10)
    check_truth(*data.train)
    check_truth(*data.test)


def test_the_median_shorter_side_is_at_most_224(tmp_path: Path) -> None:
    for i in range(5):
        path = tmp_path / "eurosat/2750/River" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (300, 260), 0).save(path)
    assert load("eurosat", root=tmp_path).train_images.shape == (4, 3, 224, 224)


@pytest.mark.parametrize("name", ["inaturalist", "sun397"])
def test_the_order_of_the_file_system_does_not_matter(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, *_ = SETS[name]
    write(tmp_path)
    data = load(name, root=tmp_path)
    known = getattr(datasets, CATALOG[name].class_name)

    class Reversed(known):  # type: ignore[misc,valid-type]
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            if name == "sun397":
                self._image_files.reverse()
                self._labels.reverse()
            else:
                self.index.reverse()

    monkeypatch.setattr(datasets, CATALOG[name].class_name, Reversed)
    again = load(name, root=tmp_path)
    for first, second in zip((*data.train, *data.test), (*again.train, *again.test), strict=True):
        assert torch.equal(first, second)


def test_a_damaged_picture_is_named_by_its_place(tmp_path: Path) -> None:
    files.country211(tmp_path)
    (tmp_path / "country211/train/AD/3.jpg").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"an image that can be decoded at place 3 of country211, but got Unid.*Repair"):
        load("country211", root=tmp_path)


def test_more_pixels_than_any_memory_holds(tmp_path: Path) -> None:
    files.eurosat(tmp_path)
    text = r"memory for 14 images of 3x100000000x100000000, but got less than their 420,000,000 GB\. Choose a smaller s"
    with pytest.raises(DataError, match=text):
        load("eurosat", root=tmp_path, size=100_000_000)


def test_a_package_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """StanfordCars and PCAM hide the error in another, Caltech101 asks when the first picture is read."""
    for package in ("h5py", "scipy", "scipy.io"):
        monkeypatch.setitem(sys.modules, package, None)
    files.caltech101(tmp_path)
    for name, package in (("pcam", "h5py"), ("stanford-cars", "scipy"), ("caltech101", "scipy")):
        with pytest.raises(DataError) as caught:
            load(name, root=tmp_path)
        assert str(caught.value) == (
            f"Expected the package {package}, with which torchvision reads {name}, but got none. "
            f"Install it: pip install {package}."
        )


def test_caltech101(tmp_path: Path) -> None:
    pytest.importorskip("scipy")
    files.caltech101(tmp_path)
    data = load("caltech101", root=tmp_path)
    assert data.class_names == ("ant", "crab")
    check_truth(*data.train)


def test_a_torchvision_without_the_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(datasets, "Imagenette")
    with pytest.raises(DataError, match=r"a torchvision that has Imagenette, but got \d.*\. Update torchvision\."):
        load("imagenette", root=tmp_path)


def test_every_set_goes_by_the_name_of_its_class() -> None:
    spelled = {name.replace("-", "") for name in CATALOG}
    assert {known.class_name.lower() for known in CATALOG.values()} <= spelled
    assert all(hasattr(datasets, known.class_name) for known in CATALOG.values())


def test_every_set_for_classification_is_known() -> None:
    """The rest have other targets, or lie in a database (LSUN), or share no class between their parts (Omniglot)."""
    others = {"FakeData", "Flickr8k", "Flickr30k", "LFWPairs", "LSUN", "LSUNClass", "Omniglot", "PhotoTour", "SBU"}
    others |= {"CocoCaptions", "CocoDetection", "Cityscapes", "Kitti", "SBDataset", "WIDERFace", "ImageFolder"}
    others |= {
        "VOCDetection",
        "VOCSegmentation",
        "VisionDataset",
        "DatasetFolder",
        "MovingMNIST",
        "wrap_dataset_for_transforms_v2",
    }
    others |= {"HMDB51", "Kinetics", "UCF101"}  # films
    others |= {name for name in datasets.__all__ if "Stereo" in name or "Flow" in name}
    others |= {"FlyingChairs", "FlyingThings3D", "HD1K", "Sintel"}
    assert set(datasets.__all__) - others <= {known.class_name for known in CATALOG.values()}


def test_the_documentation_lists_every_set() -> None:
    page = Path(__file__).parents[2] / "docs/how-to/own-images.md"
    listed = page.read_text().split("```text\n")[1].split("```")[0]
    assert listed.split() == list(CATALOG)
