"""One call to an image set in memory: the sample, a file, a folder, or a well-known set by name."""

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
from pretextkit.data._torchvision_catalog import CATALOG
from pretextkit.data._torchvision_sets import read_known
from pretextkit.errors import DataError, unknown_name

__all__ = ["ImageData", "load"]

TEST_FRACTION = 0.2


@dataclass(frozen=True, repr=False, eq=False)
class ImageData:
    """An image set in memory, in two parts."""

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
    """The place of a name is its label."""
    skipped: tuple[tuple[Path, str], ...] = ()
    """Files of a folder that could not be decoded and were left out, and why."""

    def __post_init__(self) -> None:
        for images, labels in (self.train, self.test):
            check_images(images)
            check_labels(labels, len(images))

    @property
    def train(self) -> Labeled:
        """The training images with their labels."""
        return Labeled(self.train_images, self.train_labels)

    @property
    def test(self) -> Labeled:
        """The test images with their labels."""
        return Labeled(self.test_images, self.test_labels)

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

    Where a set has no test part, a fifth of it is set aside as one: the same fifth each time, with its share of every
    class.

    Args:
        source: One of

            - ``"sample"``: 8,000 and 2,000 images of FashionMNIST that come with pretextkit;
            - the name of a torchvision data set for classification, such as ``"cifar10"``, ``"fashion-mnist"``,
              ``"food101"`` or ``"oxford-iiit-pet"``, with or without capitals and hyphens: read by torchvision from
              ``root``, after a download where needed;
            - the path of an ``.npz`` file with ``train_images`` and, where there are such, ``train_labels``,
              ``test_images``, ``test_labels`` and ``class_names``;
            - the path of a folder of images, of class folders, or of two folders ``train`` and ``test`` of these
              (write ``./mnist`` for a folder that has the name of a known set).
        root: Where torchvision keeps its sets.
        size: Scale every image's shorter side to this, and cut out the middle. By default images that are arrays stay
            as they are, and image files get one size: the median shorter side (of 256 of them, where torchvision reads
            them), at most 224. All pixels are held at once, three bytes each in color.
        download: Whether torchvision may use the network.
        on_error: ``"raise"`` on a file of a folder that cannot be decoded, or ``"skip"`` it and list it in
            :attr:`ImageData.skipped`.

    Raises:
        UnknownNameError: No such set is known, and no such file.
        OptionError: ``size`` or ``on_error`` is none of the above.
        DataError: A file is missing (the message says which, and where to put it) or holds something else.

    Example:
        >>> load("sample")
        ImageData(sample: 8000 train and 2000 test images of 1x28x28, 10 classes)
    """
    if size is not None:
        size = check_int("size", size, fix="Leave size out to keep the images as they are.")
    check_on_error(on_error)
    name = str(source)
    key = _key(name) if isinstance(source, str) else ""
    known = {_key(known): known for known in CATALOG}
    if key == "sample":
        data = ImageData("sample", *sample.read_sample("train"), *sample.read_sample("test"), sample.CLASS_NAMES)
    elif key in known:
        data = _from_torchvision(known[key], Path(root), size, download)
    elif (path := Path(source)).is_dir():
        return _from_folder(path, size, on_error)
    elif path.exists():
        data = _from_npz(path)
    elif isinstance(source, Path) or os.sep in name or "/" in name or path.suffix:
        raise DataError("the path of an .npz file or of a folder of images", got=repr(name), fix="Nothing is there.")
    else:
        raise unknown_name("data set", name, ["sample", *CATALOG], "Or pass the path of an .npz file or of a folder.")
    return data if size is None else _resized(data, size)


def _key(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "").replace(" ", "")


def _from_torchvision(name: str, root: Path, size: int | None, download: bool) -> ImageData:
    train, test, names = read_known(name, root, size, download)
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
    # Classes that only the test part has (the defects of an anomaly set) come after those of the training part.
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
            f"enough images in {path} to set a fifth aside for testing",
            got=len(data.images),
            fix="Add images, or a test part of its own.",
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
