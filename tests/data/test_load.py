from __future__ import annotations

import gzip
import pickle
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn
from urllib.error import URLError

import numpy as np
import pytest
import torch
from PIL import Image

from pretextkit.data import ImageData, load
from pretextkit.data._torchvision_sets import CATALOG
from pretextkit.errors import DataError, OptionError, ShapeError, UnknownNameError


def pixels(n: int, *shape: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(n).integers(0, 256, (n, *shape), dtype=np.uint8)


@pytest.mark.parametrize("name", ["sample", "Sample"])
def test_load_reads_sample(name: str) -> None:
    data = load(name)
    assert repr(data) == "ImageData(sample: 8000 train and 2000 test images of 1x28x28, 10 classes)"
    assert data.train.images is data.train_images
    assert data.test.labels is data.test_labels
    assert data.class_names[9] == "Ankle boot"
    assert data.train_images.dtype == data.test_images.dtype == torch.uint8


def test_load_size_scales_both_parts() -> None:
    data = load("sample", size=14)
    assert data.train_images.shape == (8000, 1, 14, 14)
    assert data.test_images.shape == (2000, 1, 14, 14)
    assert data.train_images.dtype == torch.uint8
    full = load("sample").test_images.float()
    pooled = torch.nn.functional.avg_pool2d(full, 2)
    assert (data.test_images.float() - pooled).abs().mean() < 10
    with pytest.raises(OptionError, match="Expected size to be an integer >= 1, but got 0"):
        load("sample", size=0)


@pytest.mark.parametrize("form", ["n h w c", "n c h w", "n h w", "float"])
def test_load_reads_npz_layouts(tmp_path: Path, form: str) -> None:
    train, test = pixels(6, 5, 4, 3), pixels(3, 5, 4, 3)
    expected = torch.from_numpy(train).permute(0, 3, 1, 2)
    forms: dict[str, Callable[[Any], Any]] = {
        "n h w c": lambda a: a,
        "n c h w": lambda a: a.transpose(0, 3, 1, 2),
        "n h w": lambda a: a[..., 0],
        "float": lambda a: a / np.float32(255),
    }
    change = forms[form]
    np.savez(
        tmp_path / "set.npz",
        train_images=change(train),
        train_labels=np.arange(6, dtype=np.uint8) % 2,
        test_images=change(test),
        test_labels=[0, 1, -1],
        class_names=["cat", "dog"],
    )
    data = load(str(tmp_path / "set.npz"))
    assert torch.equal(data.train_images, expected[:, :1] if form == "n h w" else expected)
    assert data.train_images.is_contiguous()
    assert data.train_labels.tolist() == [0, 1] * 3
    assert data.test_labels.tolist() == [0, 1, -1]
    assert data.class_names == ("cat", "dog")
    assert (data.name, len(data.test_images)) == ("set", 3)


def test_load_rounds_float_pixels(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", train_images=np.full((5, 2, 2), 0.999))
    assert load(tmp_path / "a.npz").train_images.unique().tolist() == [255]  # type: ignore[no-untyped-call]


def test_load_npz_without_labels_or_names(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", train_images=pixels(6, 5, 4), test_images=pixels(3, 5, 4), more=np.zeros(3))
    data = load(tmp_path / "a.npz")
    assert data.train_labels.tolist() == [-1] * 6
    assert data.test_labels.tolist() == [-1] * 3
    assert data.class_names == ()
    np.savez(tmp_path / "b.npz", train_images=pixels(6, 5, 4), train_labels=[0, 2] * 3, test_images=pixels(3, 5, 4))
    assert load(tmp_path / "b.npz").class_names == ("0", "1", "2")


def test_load_npz_without_test_splits_train(tmp_path: Path) -> None:
    labels = np.array([0] * 50 + [1] * 30 + [-1] * 20)
    images = pixels(100, 4, 4)
    np.savez(tmp_path / "a.npz", train_images=images, train_labels=labels)
    data = load(tmp_path / "a.npz")
    assert [(data.test_labels == label).sum().item() for label in (0, 1, -1)] == [10, 6, 4]
    assert [(data.train_labels == label).sum().item() for label in (0, 1, -1)] == [40, 24, 16]
    both = torch.cat([data.train_images, data.test_images]).flatten(1).tolist()
    assert sorted(both) == sorted(images.reshape(100, -1).tolist())
    assert torch.equal(load(tmp_path / "a.npz").test_images, data.test_images)


def test_load_single_image_raises_data_error(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", train_images=pixels(1, 4, 4))
    with pytest.raises(DataError, match=r"enough images in .*a\.npz to use a fifth for testing, but got 1\. Add"):
        load(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("arrays", "error", "text"),
    [
        (
            {"images": np.zeros(3)},
            DataError,
            r"an array train_images in .*a\.npz, but got images\. Save with numpy\.savez\(",
        ),
        ({}, DataError, r"an array train_images in .*a\.npz, but got no array"),
        (
            {"train_images": np.zeros((2, 3))},
            ShapeError,
            r"images b c h w \(train of .*a\.npz\), but got shape \(2, 3\)",
        ),
        (
            {"train_images": pixels(4, 4, 3)},
            ShapeError,
            r"n c h w \(train of .*a\.npz\), but got shape \(4, 4, 3\), which may be one image h w c\. Pass array",
        ),
        (
            {"train_images": pixels(3, 4, 4), "train_labels": [0, 1]},
            ShapeError,
            r"as many labels as images \(train of .*a\.npz\), but got 2 labels for 3 images",
        ),
        (
            {"train_images": pixels(3, 4, 4), "test_images": np.full((1, 4, 4), 9.0)},
            DataError,
            r"float images in \[0, 1\] \(test of .*a\.npz\), but got values from 9 to 9\. Divide by the value of white",
        ),
        (
            {"train_images": pixels(3, 4, 4), "train_labels": [0, 1, 2], "class_names": ["a", "b"]},
            DataError,
            r"labels below 2, the number of class_names in .*a\.npz, but got 2\. Name every class, or none\.",
        ),
        (
            {"train_images": np.array([None, 1], dtype=object)},
            DataError,
            r"an \.npz file of plain arrays at .*a\.npz, but got ValueError: .*allow_pickle.*Write it with",
        ),
    ],
)
def test_load_wrong_npz_raises_error(tmp_path: Path, arrays: dict[str, Any], error: type[Exception], text: str) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(error, match=text):
        load(tmp_path / "a.npz")


@pytest.mark.parametrize("left", [0, 10, 200, 0.5, 0.99])
def test_truncated_npz(tmp_path: Path, left: float) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, train_images=pixels(20, 8, 8))
    content = path.read_bytes()
    path.write_bytes(content[: int(left * len(content)) if isinstance(left, float) else left])
    with pytest.raises(DataError, match=r"Expected an \.npz file of plain arrays at .*a\.npz, but got \w+: "):
        load(path)


@pytest.mark.parametrize("place", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_flipped_bits_in_a_compressed_npz(tmp_path: Path, place: float) -> None:
    path = tmp_path / "a.npz"
    np.savez_compressed(path, train_images=pixels(20, 8, 8))
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"Expected an \.npz file of plain arrays at .*a\.npz, but got [\w.]+: "):
        load(path)


def test_load_other_file_type_raises_data_error(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", pixels(3, 4, 4))
    (tmp_path / "b.npz").write_bytes(pickle.dumps({"train_images": 1}))
    with pytest.raises(DataError, match=r"Expected an \.npz file of plain arrays at .*b\.npz, but got "):
        load(tmp_path / "b.npz")
    with pytest.raises(DataError, match=r"Expected the path of an \.npz file .*a\.npy'\. Pass its array: numpy\.load"):
        load(tmp_path / "a.npy")


def draw(path: Path, color: int, size: tuple[int, int] = (8, 8)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, color).save(path)


def test_load_reads_train_and_test_folders(tmp_path: Path) -> None:
    for i in range(3):
        draw(tmp_path / "train" / "good" / f"{i}.png", 50 + i, (12, 10))
    draw(tmp_path / "test" / "good" / "0.png", 100, (20, 20))
    draw(tmp_path / "test" / "crack" / "0.png", 200)
    data = load(tmp_path)
    assert data.class_names == ("good", "crack")
    assert data.train_images[:, 0, 0, 0].tolist() == [50, 51, 52]
    assert data.train_labels.tolist() == [0, 0, 0]
    assert data.test_images[:, 0, 0, 0].tolist() == [200, 100]
    assert data.test_labels.tolist() == [1, 0]
    assert data.train_images.shape == (3, 3, 10, 10)
    assert data.test_images.shape == (2, 3, 10, 10)
    assert load(tmp_path, size=6).test_images.shape == (2, 3, 6, 6)
    assert data.name == tmp_path.name


def test_load_reads_class_and_flat_folders(tmp_path: Path) -> None:
    for name, color in (("cat", 50), ("dog", 200)):
        for i in range(10):
            draw(tmp_path / "classes" / name / f"{i}.png", color)
            draw(tmp_path / "flat" / f"{name}{i}.png", color)
    data = load(str(tmp_path / "classes"))
    assert (data.class_names, len(data.train_labels)) == (("cat", "dog"), 16)
    assert data.test_labels.tolist() == [0, 0, 1, 1]
    assert data.test_images[:, 0, 0, 0].tolist() == [50, 50, 200, 200]
    flat = load(tmp_path / "flat")
    assert (flat.class_names, flat.test_labels.tolist(), len(flat.train_images)) == ((), [-1] * 4, 16)


@pytest.mark.parametrize("parts", [("",), ("train", "test")])
def test_folder_names_or_skips_damaged_files(tmp_path: Path, parts: tuple[str, ...]) -> None:
    for part in parts:
        for i in range(5):
            draw(tmp_path / part / "cat" / f"{i}.png", 50 + i)
        (tmp_path / part / "cat" / "2.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"can be decoded at .*2\.png, but got an empty file.*on_error=\"skip\""):
        load(tmp_path)
    data = load(tmp_path, on_error="skip")
    assert data.skipped == tuple((tmp_path / part / "cat" / "2.png", "an empty file") for part in parts)
    images = torch.cat([data.train_images, data.test_images])
    assert sorted(images[:, 0, 0, 0].tolist()) == sorted([50, 51, 53, 54] * len(parts))
    assert repr(data).endswith(f"1 classes, {len(parts)} files skipped)")


def test_load_checks_on_error_for_any_source() -> None:
    wrong: Any = "ignore"
    with pytest.raises(OptionError, match='Expected on_error "raise" or "skip", but got \'ignore\''):
        load("sample", on_error=wrong)
    assert load("sample", on_error="skip").skipped == ()


def test_path_with_dataset_name_reads_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(5):
        draw(tmp_path / "mnist" / f"{i}.png", 50 + i)
    monkeypatch.chdir(tmp_path)
    assert load("./mnist").name == "mnist"
    assert len(load(Path("mnist")).train_images) == 4


def test_load_unknown_name_suggests_nearest() -> None:
    with pytest.raises(UnknownNameError) as caught:
        load("cifar-11")
    assert caught.value.text == (
        "Expected the name of a dataset, but got 'cifar-11'. Did you mean 'cifar10'? "
        f"Known: sample, {', '.join(CATALOG)}. Or pass the path of an .npz file or of a folder."
    )


@pytest.mark.parametrize(
    ("name", "class_name"), [("gtsrb", "GTSRB"), ("oxford-iiit-pet", "OxfordIIITPet"), ("Caltech 101", "Caltech101")]
)
def test_other_torchvision_dataset_is_passed_itself(name: str, class_name: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        load(name)
    assert caught.value.text == (
        f"Expected the name of a dataset that load reads, but got {name!r}. "
        f"Pass torchvision.datasets.{class_name}(root, ...) itself to pretrain and the probes, without load."
    )


def test_load_of_missing_path_raises_data_error() -> None:
    for missing in ("nowhere/at/all", "nowhere.npz", Path("nowhere")):
        with pytest.raises(
            DataError, match=r"Expected the path of an \.npz file or of a folder of images, but got 'nowhere"
        ):
            load(missing)


@pytest.fixture(name="no_network")
def cut_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **options: Any) -> NoReturn:
        raise URLError("no network here")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("download", [True, False])
@pytest.mark.parametrize("name", [name for name in CATALOG if name != "svhn"])
def test_load_without_network_names_missing_files(tmp_path: Path, name: str, download: bool) -> None:
    with pytest.raises(DataError) as caught:
        load(name.upper().replace("-", "_"), root=tmp_path, download=download)
    text = caught.value.text
    assert f"Expected the files of {name} in {tmp_path / CATALOG[name].folder}, but got " in text
    # torchvision 0.19 does not report the reason for some datasets.
    reasons = ("no network here", "Error downloading", "gdown") if download else ("none, and download=False",)
    assert any(reason in text for reason in reasons)
    hint = " (download=True unpacks archives in place)"
    assert text.endswith(f"Put {', '.join(CATALOG[name].files)} there and call again{hint}.")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.usefixtures("no_network")
def test_load_svhn_without_scipy_or_network_says_why(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        load("svhn", root=tmp_path)
    package = "Expected the package scipy, with which torchvision reads svhn, but got none. Install it: pip install"
    put = f"Put {', '.join(CATALOG['svhn'].files)} there and call again"
    assert package in str(caught.value) or put in str(caught.value)


def write_idx(path: Path, values: np.ndarray[Any, Any], zipped: bool = False) -> None:
    content = struct.pack(f">BBBB{values.ndim}i", 0, 0, 8, values.ndim, *values.shape) + values.tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content) if zipped else content)


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize(("name", "folder"), [("fashion-mnist", "FashionMNIST"), ("mnist", "MNIST")])
@pytest.mark.parametrize("download", [True, False])
def test_load_reads_files_put_by_hand(tmp_path: Path, name: str, folder: str, download: bool) -> None:
    assert CATALOG[name].folder == f"{folder}/raw"
    arrays = [pixels(7, 28, 28), np.arange(7, dtype=np.uint8), pixels(3, 28, 28), np.arange(3, dtype=np.uint8)]
    for file, array in zip(CATALOG[name].files, arrays, strict=True):
        write_idx(tmp_path / CATALOG[name].folder / file, array)
    data = load(name, root=tmp_path, download=download)
    for found, array in zip((*data.train, *data.test), arrays, strict=True):
        assert torch.equal(found.squeeze(), torch.from_numpy(array).to(found.dtype))
    assert data.train_images.shape == (7, 1, 28, 28)
    assert len(data.class_names) == 10


def test_load_keeps_axes_of_torchvision_arrays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torchvision holds CIFAR as n h w c with a list of targets, SVHN and STL-10 as n c h w with an array of labels."""
    values = pixels(5, 32, 32, 3)

    class Cifar:
        classes = ("cat", "dog")

        def __init__(self, root: Path, download: bool, train: bool) -> None:
            self.data, self.targets = values, [0, 1, 0, 1, 0]

    class Stl:
        classes = ("cat", "dog")

        def __init__(self, root: Path, download: bool, split: str) -> None:
            assert split in ("train+unlabeled", "test")
            self.data, self.labels = values.transpose(0, 3, 1, 2), np.array([0, 1, 0, 1, -1])

    class Svhn:
        def __init__(self, root: Path, download: bool, split: str) -> None:
            self.data, self.labels = values.transpose(0, 3, 1, 2), np.array([0, 1, 0, 1, 9])

    from torchvision import datasets

    for name, fake, classes in (("CIFAR10", Cifar, 2), ("STL10", Stl, 2), ("SVHN", Svhn, 10)):
        monkeypatch.setattr(datasets, name, fake)
        data = load(name, root=tmp_path)
        assert torch.equal(data.train_images, torch.from_numpy(values).permute(0, 3, 1, 2))
        assert data.test_labels[:4].tolist() == [0, 1, 0, 1]
        assert len(data.class_names) == classes


def test_catalog_files_match_torchvision() -> None:
    from torchvision import datasets

    for name in ("cifar10", "cifar100", "fashion-mnist", "kmnist", "mnist", "stl10", "svhn"):
        kind = getattr(datasets, CATALOG[name].class_name)
        expected = (
            {getattr(kind, "filename", None)}
            | {Path(name).stem for name, _ in getattr(kind, "resources", [])}
            | {entry[1] for split, entry in getattr(kind, "split_list", {}).items() if split != "extra"}
        )
        assert set(CATALOG[name].files) == expected - {None}


def test_image_data_checks_its_arrays() -> None:
    images, labels = torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64)
    with pytest.raises(ShapeError, match="Expected as many labels as images, but got 1 labels for 2 images"):
        ImageData("own", images, labels, images, labels[:1], ("a",))
    with pytest.raises(ShapeError, match="Expected images b c h w"):
        ImageData("own", images[0], labels, images, labels, ("a",))
