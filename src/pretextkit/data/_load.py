"""Read image sets into memory: the embedded sample, a file, a folder, or a torchvision dataset by name."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from pretextkit._validation import check_images, check_int, check_labels
from pretextkit.batches import Labeled
from pretextkit.data import _sample as sample
from pretextkit.data._folder import FolderImages, check_on_error
from pretextkit.data._image_conversion import resize_and_crop
from pretextkit.data._npz import read_npz
from pretextkit.data._splits import stratified_split
from pretextkit.data._torchvision_sets import CATALOG, read_dataset, torchvision_class
from pretextkit.errors import DataError, UnknownNameError, unknown_name

__all__ = ["ImageData", "load"]

TEST_FRACTION = 0.2


class _NamedLabeled(Labeled):
    """Images with labels that carry the names of their classes, to match two sets by name."""

    class_names: tuple[str, ...] | None = None


@dataclass(frozen=True, repr=False, eq=False)
class ImageData:
    """Training and test images in memory, with their labels."""

    name: str
    train_images: Tensor
    """``n c h w``, uint8."""
    train_labels: Tensor
    """``n``, int64, -1 where unlabeled."""
    test_images: Tensor
    """``n c h w``, uint8."""
    test_labels: Tensor
    """``n``, int64, -1 where unlabeled."""
    class_names: tuple[str, ...]
    """Class names; the index of a name is its label."""
    skipped: tuple[tuple[Path, str], ...] = ()
    """Files of a folder that could not be decoded, each with the reason."""

    def __post_init__(self) -> None:
        for images, labels in (self.train, self.test):
            check_images(images)
            check_labels(labels, len(images))

    @property
    def train(self) -> Labeled:
        """The training images with their labels."""
        return self._named(self.train_images, self.train_labels)

    @property
    def test(self) -> Labeled:
        """The test images with their labels."""
        return self._named(self.test_images, self.test_labels)

    def _named(self, images: Tensor, labels: Tensor) -> Labeled:
        part = _NamedLabeled(images, labels)
        part.class_names = self.class_names or None
        return part

    def __repr__(self) -> str:
        counts = f"{len(self.train_images)} train and {len(self.test_images)} test images"
        shape = "x".join(map(str, self.train_images.shape[1:]))
        skipped = f", {len(self.skipped)} files skipped" if self.skipped else ""
        return f"ImageData({self.name}: {counts} of {shape}, {len(self.class_names)} classes{skipped})"


def load(
    source: str | Path,
    *,
    root: str | Path = "data",
    size: int | None = None,
    download: bool = True,
    on_error: Literal["raise", "skip"] = "raise",
) -> ImageData:
    """Read an image set into memory.

    If the set has no test part, a fifth of each class becomes the test part, the same fifth on each call.

    Args:
        source: One of

            - ``"sample"``: 8,000 and 2,000 images of FashionMNIST that come with pretextkit;
            - the name of one of twelve torchvision datasets, ignoring case and hyphens: ``"cifar10"``, ``"cifar100"``,
              ``"svhn"``, ``"stl10"``, ``"mnist"``, ``"fashion-mnist"``, ``"kmnist"``, ``"emnist"`` (balanced split),
              ``"eurosat"``, ``"food101"``, ``"imagenette"`` or ``"celeba"`` (without labels). torchvision reads the
              files from ``root``, and downloads them if they are missing;
            - the path of an ``.npz`` file with ``train_images`` and optionally ``train_labels``, ``test_images``,
              ``test_labels`` and ``class_names``;
            - the path of a folder of images, of class folders, or of two such folders ``train`` and ``test`` (write
              ``./mnist`` for a folder that has the name of a dataset).
        root: Folder in which torchvision keeps its datasets.
        size: Side of the images in pixels: the shorter side is scaled to ``size`` and the center cropped. By default
            arrays keep their size, and image files get the median shorter side (of 256 files for a torchvision
            dataset), at most 224. All pixels are held in memory, three bytes per pixel in color.
        download: Whether torchvision may use the network.
        on_error: ``"raise"`` an error for a file of a folder that cannot be decoded, or ``"skip"`` the file and list
            it in :attr:`ImageData.skipped`.

    Raises:
        UnknownNameError: ``source`` is neither the name of a dataset nor a path.
        OptionError: ``size`` or ``on_error`` has another value.
        DataError: A file is missing (the message says which file, and where to put it) or has other content.

    Example:
        >>> load("sample")
        ImageData(sample: 8000 train and 2000 test images of 1x28x28, 10 classes)
    """
    if size is not None:
        size = check_int("size", size, fix="Leave size out to keep the images as they are.")
    check_on_error(on_error)
    name = str(source)
    key = _key(name) if isinstance(source, str) else ""
    names = {_key(each): each for each in CATALOG}
    if key == "sample":
        data = ImageData("sample", *sample.read_sample("train"), *sample.read_sample("test"), sample.CLASS_NAMES)
    elif key in names:
        data = _from_torchvision(names[key], Path(root), size, download)
    elif (path := Path(source)).is_dir():
        return _from_folder(path, size, on_error)
    elif path.exists():
        data = _from_npz(path)
    elif isinstance(source, Path) or os.sep in name or "/" in name or path.suffix:
        raise DataError("the path of an .npz file or of a folder of images", got=repr(name), fix="Check the path.")
    elif (class_name := torchvision_class(name)) is not None:
        fix = f"Pass torchvision.datasets.{class_name}(root, ...) itself to pretrain and the probes, without load."
        raise UnknownNameError("the name of a dataset that load reads", got=repr(name), fix=fix)
    else:
        raise unknown_name("dataset", name, ["sample", *CATALOG], "Or pass the path of an .npz file or of a folder.")
    return data if size is None else _resized(data, size)


def _key(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "").replace(" ", "")


def _from_torchvision(name: str, root: Path, size: int | None, download: bool) -> ImageData:
    train, test, names = read_dataset(name, root, size, download)
    if test is None:
        train, test = _set_aside(train, root)
    return ImageData(name, *train, *test, names)


def _from_npz(path: Path) -> ImageData:
    train, test, names = read_npz(path)
    top = int(torch.cat([train.labels, test.labels if test else train.labels]).max())
    if names and top >= len(names):
        raise DataError(
            f"labels below {len(names)}, the number of class_names in {path}", got=top, fix="Name every class, or none."
        )
    names = names or tuple(str(label) for label in range(top + 1))
    if test is None:
        train, test = _set_aside(train, path)
    return ImageData(path.stem, *train, *test, names)


def _from_folder(path: Path, size: int | None, on_error: Literal["raise", "skip"]) -> ImageData:
    if not ((path / "train").is_dir() and (path / "test").is_dir()):
        folder = FolderImages(path, size=size, on_error=on_error)
        train, test = _set_aside(_in_memory(folder, folder.classes), path)
        return ImageData(path.resolve().name, *train, *test, folder.classes, folder.skipped)
    first = FolderImages(path / "train", size=size, on_error=on_error)
    second = FolderImages(path / "test", size=first.size, on_error=on_error)
    # Classes of the test part alone (the defects of an anomaly set) follow the classes of the training part.
    names = first.classes + tuple(name for name in second.classes if name not in first.classes)
    train, test = _in_memory(first, names), _in_memory(second, names)
    return ImageData(path.resolve().name, *train, *test, names, first.skipped + second.skipped)


def _in_memory(folder: FolderImages, names: tuple[str, ...]) -> Labeled:
    images = torch.empty(len(folder), 3, folder.size, folder.size, dtype=torch.uint8)
    labels = torch.empty(len(folder), dtype=torch.int64)
    for index in range(len(folder)):
        images[index], label = folder[index]
        labels[index] = names.index(folder.classes[label]) if label >= 0 else -1
    return Labeled(images, labels)


def _set_aside(data: Labeled, path: Path) -> tuple[Labeled, Labeled]:
    # Unlabeled images are split like one more class.
    train, test = stratified_split(data.labels - data.labels.min(), 1 - TEST_FRACTION)
    if len(test) == 0:
        raise DataError(
            f"enough images in {path} to use a fifth for testing",
            got=len(data.images),
            fix="Add images, or a separate test part.",
        )
    return Labeled(data.images[train], data.labels[train]), Labeled(data.images[test], data.labels[test])


def _resized(data: ImageData, size: int) -> ImageData:
    train, test = (
        images
        if images.shape[2:] == (size, size)
        else torch.cat([resize_and_crop(chunk, size) for chunk in torch.split(images, 1024)])
        for images in (data.train_images, data.test_images)
    )
    return ImageData(data.name, train, data.train_labels, test, data.test_labels, data.class_names)
