"""Read image sets into memory: the embedded sample, a file, a folder, or a torchvision dataset by name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from pretextkit._validation import check_images, check_labels
from pretextkit._validation._image_advice import path_fix
from pretextkit.batches import Labeled
from pretextkit.data import _sample as sample
from pretextkit.data._brightness import warn_of_dark_images
from pretextkit.data._file_listing import list_images
from pretextkit.data._file_options import check_on_error
from pretextkit.data._folder import FolderImages
from pretextkit.data._image_size import check_size, height_width
from pretextkit.data._npz import read_npz
from pretextkit.data._resizing import Fit, check_fit, resize
from pretextkit.data._split_folders import Part, find_splits
from pretextkit.data._splits import stratified_split
from pretextkit.data._torchvision_sets import CATALOG, read_dataset, torchvision_class
from pretextkit.data._types import Size
from pretextkit.data._value_range import ValueRange, value_range
from pretextkit.errors import DataError, OptionError, UnknownNameError, unknown_name

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
    """``n c h w``, uint8; float32 in [0, 1] if a range was stated."""
    train_labels: Tensor
    """``n``, int64, -1 where unlabeled."""
    test_images: Tensor
    """``n c h w``, uint8."""
    test_labels: Tensor
    """``n``, int64, -1 where unlabeled."""
    class_names: tuple[str, ...]
    """Class names; the index of a name is its label."""
    skipped: tuple[tuple[Path, str], ...] = ()
    """Files of a folder that are not read, each with the reason."""
    validation_images: Tensor | None = None
    """``n c h w``, uint8; None without a validation part."""
    validation_labels: Tensor | None = None
    """``n``, int64, -1 where unlabeled; None without a validation part."""

    def __post_init__(self) -> None:
        for images, labels in (self.train, self.test, *([self.validation] if self.validation else [])):
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

    @property
    def validation(self) -> Labeled | None:
        """The validation images with their labels, for the choice of hyperparameters; None without them."""
        if self.validation_images is None or self.validation_labels is None:
            return None
        return Labeled(self.validation_images, self.validation_labels)

    def __repr__(self) -> str:
        validation = f", {len(self.validation.images)} validation" if self.validation else ""
        counts = f"{len(self.train_images)} train{validation} and {len(self.test_images)} test images"
        shape = "x".join(map(str, self.train_images.shape[1:]))
        skipped = f", {len(self.skipped)} files skipped" if self.skipped else ""
        return f"ImageData({self.name}: {counts} of {shape}, {len(self.class_names)} classes{skipped})"


def load(
    source: str | Path,
    *,
    root: str | Path = "data",
    size: Size | None = None,
    download: bool = True,
    on_error: Literal["raise", "skip"] = "raise",
    fit: Fit | None = None,
    white: float | None = None,
    black: float = 0.0,
) -> ImageData:
    """Read an image set into memory.

    If the set has no test part, its validation part becomes the test part, as usual for ImageNet. Without either, a
    fifth of each class becomes the test part, the same fifth on each call.

    Args:
        source: One of

            - ``"sample"``: 8,000 and 2,000 images of FashionMNIST that come with pretextkit;
            - the name of one of twelve torchvision datasets, ignoring case and hyphens: ``"cifar10"``, ``"cifar100"``,
              ``"svhn"``, ``"stl10"``, ``"mnist"``, ``"fashion-mnist"``, ``"kmnist"``, ``"emnist"`` (balanced split),
              ``"eurosat"``, ``"food101"``, ``"imagenette"`` or ``"celeba"`` (without labels). torchvision reads the
              files from ``root``, and downloads them if they are missing;
            - the path of an ``.npz`` file with ``train_images`` and optionally ``train_labels``, ``val_images``,
              ``val_labels``, ``test_images``, ``test_labels`` and ``class_names``; labels are ``n`` or ``n 1`` integers
              or texts;
            - the path of a folder of images, of class folders, or of splits that are such folders: ``train``,
              ``training``; ``val``, ``valid``, ``validation``, ``dev``; ``test``, ``testing``, ``eval``, in any case,
              also within one more folder (write ``./mnist`` for a folder that has the name of a dataset).
        root: Folder in which torchvision keeps its datasets.
        size: Side of the images in pixels, or a pair (height, width). By default arrays keep their size, and image
            files get squares of the median shorter side (of 256 files for a torchvision dataset), at most 224. All
            pixels are held in memory, three bytes per pixel in color.
        download: Whether torchvision may use the network.
        on_error: ``"raise"`` an error for a file of a folder that cannot be decoded, or ``"skip"`` the file and list
            it in :attr:`ImageData.skipped`.
        fit: How an image gets another shape, as for :class:`FolderImages`. By default ``"crop"``; and ``"pad"``, which
            keeps the full image, for the folder of an anomaly set: one class in the training part, more in the others.
        white: Value of white in a folder or an ``.npz`` file whose images are neither bytes nor floats in [0, 1], such
            as 4095 for 12 bits. The images become float32, and values beyond black and white are clipped.
        black: Value of black beside ``white``.

    Raises:
        UnknownNameError: ``source`` is neither the name of a dataset nor a path.
        OptionError: ``size``, ``on_error``, ``fit`` or ``white`` has another value, or ``white`` stands beside a name.
        DataError: A file is missing (the message says which file, and where to put it) or has other content.

    Example:
        >>> load("sample")
        ImageData(sample: 8000 train and 2000 test images of 1x28x28, 10 classes)
    """
    if size is not None:
        size = check_size(size, fix="Leave size out for the size of the images, or the median of a folder.")
    check_on_error(on_error)
    check_fit(fit)
    values = value_range(white, black)
    name = str(source)
    key = _key(name) if isinstance(source, str) else ""
    names = {_key(each): each for each in CATALOG}
    if values is not None and (key == "sample" or key in names):
        raise OptionError("white beside a folder or an .npz file", got=f"the name {name!r}", fix="Leave white out.")
    if key == "sample":
        data = ImageData("sample", *sample.read_sample("train"), *sample.read_sample("test"), sample.CLASS_NAMES)
    elif key in names:
        data = _from_torchvision(names[key], Path(root), size, download, fit or "crop")
    elif (path := Path(source)).is_dir():
        return _from_folder(path, {"size": size, "on_error": on_error, "fit": fit, "white": white, "black": black})
    elif path.exists():
        if path.suffix.lower() != ".npz":
            fix = path_fix(path)
            raise DataError("the path of an .npz file or of a folder of images", got=repr(name), fix=fix)
        data = _from_npz(path, values)
    elif isinstance(source, Path) or os.sep in name or "/" in name or path.suffix:
        raise DataError("the path of an .npz file or of a folder of images", got=repr(name), fix="Check the path.")
    elif (class_name := torchvision_class(name)) is not None:
        fix = f"Pass torchvision.datasets.{class_name}(root, ...) itself to pretrain and the probes, without load."
        raise UnknownNameError("the name of a dataset that load reads", got=repr(name), fix=fix)
    else:
        raise unknown_name("dataset", name, ["sample", *CATALOG], "Or pass the path of an .npz file or of a folder.")
    return data if size is None else _resized(data, size, fit or "crop")


def _key(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "").replace(" ", "")


def _from_torchvision(name: str, root: Path, size: Size | None, download: bool, fit: Fit) -> ImageData:
    train, test, names = read_dataset(name, root, size, download, fit)
    if test is None:
        train, test = _set_aside(train, root)
    return ImageData(name, *train, *test, names)


def _from_npz(path: Path, values: ValueRange | None) -> ImageData:
    train, validation, test, names = read_npz(path, values)
    parts = [part for part in (train, validation, test) if part is not None]
    top = max(int(part.labels.max()) for part in parts)
    if names and top >= len(names):
        raise DataError(
            f"labels below {len(names)}, the number of class_names in {path}", got=top, fix="Name every class, or none."
        )
    if values is None:
        for each in parts:
            warn_of_dark_images(each.images, f"{path}")
    return _image_data(
        path.stem, path, (train, validation, test), names or tuple(str(label) for label in range(top + 1))
    )


def _from_folder(path: Path, options: dict[str, Any]) -> ImageData:
    splits = find_splits(path)
    options = {**options, "cache": False}  # each file is read once, into a tensor
    if len(splits) < 2:
        folder = FolderImages(path, **options)
        images = _in_memory(folder, folder.classes)
        return _image_data(path.resolve().name, path, (images, None, None), folder.classes, folder.skipped)
    if "train" not in splits:
        listed = [each.name for each in splits.values()]
        raise DataError(
            f"a training split in {path}",
            got=f"{' and '.join(listed)} only",
            fix=f"Rename one of them to train, or read one alone: load({str(splits['test'])!r}).",
        )
    if options["fit"] is None and _of_anomalies(splits):
        options = {**options, "fit": "pad"}
    train = FolderImages(splits["train"], **options)
    folders: dict[Part, FolderImages] = {"train": train}
    others: tuple[Part, ...] = ("test", "validation")
    for part in others:
        if part in splits:
            folders[part] = FolderImages(splits[part], **{**options, "size": train.size})
    # Classes of the test part alone (the defects of an anomaly set) follow the classes of the training part.
    names = tuple(dict.fromkeys(name for folder in folders.values() for name in folder.classes))
    read = {part: _in_memory(folder, names) for part, folder in folders.items()}
    skipped = tuple(entry for folder in folders.values() for entry in folder.skipped)
    parts = (read["train"], read.get("validation"), read.get("test"))
    return _image_data(path.resolve().name, path, parts, names, skipped)


def _image_data(
    name: str,
    path: Path,
    parts: tuple[Labeled, Labeled | None, Labeled | None],
    names: tuple[str, ...],
    skipped: tuple[tuple[Path, str], ...] = (),
) -> ImageData:
    """Build the data from a training part and perhaps a validation and a test part."""
    train, validation, test = parts
    if test is None:
        test, validation = validation, None
    if test is None:
        train, test = _set_aside(train, path)
    return ImageData(name, *train, *test, names, skipped, *(validation or (None, None)))


def _of_anomalies(splits: Mapping[Part, Path]) -> bool:
    """Whether there is one class to train on, and another in the other parts."""
    classes = {part: set(list_images(path).classes) for part, path in splits.items()}
    train = classes["train"]
    return len(train) <= 1 and any(names - train for names in classes.values())


def _in_memory(folder: FolderImages, names: tuple[str, ...]) -> Labeled:
    dtype = torch.uint8 if folder.reader.values is None else torch.float32
    images = torch.empty(len(folder), 3, *height_width(folder.size), dtype=dtype)
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


def _resized(data: ImageData, size: Size, fit: Fit) -> ImageData:
    def each(images: Tensor) -> Tensor:
        if images.shape[2:] == height_width(size):
            return images
        return torch.cat([resize(chunk, size, fit) for chunk in torch.split(images, 1024)])

    validation = None if data.validation_images is None else each(data.validation_images)
    return replace(
        data,
        train_images=each(data.train_images),
        test_images=each(data.test_images),
        validation_images=validation,
    )
