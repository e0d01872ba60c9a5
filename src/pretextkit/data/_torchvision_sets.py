"""Datasets of torchvision by name: constructor arguments, file locations, and reading into memory."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pretextkit.batches import Labeled
from pretextkit.data._folder import DEFAULT_LIMIT
from pretextkit.data._image_conversion import channels_second, pil_tensor
from pretextkit.data._image_size import height_width
from pretextkit.data._npz import as_uint8
from pretextkit.data._resizing import Fit, resize
from pretextkit.data._types import Size
from pretextkit.errors import DataError, reason

__all__ = ["CATALOG", "DatasetSpec", "read_dataset", "torchvision_class"]

MEASURED = 256
"""Number of images whose sides decide the size of a dataset of image files; each of them is decoded."""


class DatasetSpec(NamedTuple):
    """Constructor arguments and file locations of a torchvision dataset."""

    class_name: str
    """Name in ``torchvision.datasets``."""
    train: dict[str, Any]
    """Constructor arguments of the training part."""
    test: dict[str, Any] | None
    """Constructor arguments of the test part; None if the dataset has one part."""
    folder: str
    """Folder of the files, below the root."""
    files: tuple[str, ...]
    """Names of the files, for messages."""


TRAIN, TEST = {"train": True}, {"train": False}
SPLIT_TRAIN, SPLIT_TEST = {"split": "train"}, {"split": "test"}

# Unpacked files, because torchvision accepts a .gz file only if it is the published one, byte for byte.
IDX = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
MNIST_FILES = tuple(f"{part}-ubyte" for part in IDX)
EMNIST_FILES = tuple(f"emnist-balanced-{part.replace('t10k', 'test')}-ubyte" for part in IDX)
BALANCED = {"split": "balanced"}
CELEBA_LISTS = tuple(f"list_{name}_celeba.txt" for name in ("attr", "bbox", "landmarks_align"))

CATALOG = {
    "cifar10": DatasetSpec("CIFAR10", TRAIN, TEST, "", ("cifar-10-python.tar.gz",)),
    "cifar100": DatasetSpec("CIFAR100", TRAIN, TEST, "", ("cifar-100-python.tar.gz",)),
    "svhn": DatasetSpec("SVHN", SPLIT_TRAIN, SPLIT_TEST, "", ("train_32x32.mat", "test_32x32.mat")),
    # STL-10 is made for self-supervised learning: 100,000 of its 105,000 training images are unlabeled.
    "stl10": DatasetSpec("STL10", {"split": "train+unlabeled"}, SPLIT_TEST, "", ("stl10_binary.tar.gz",)),
    "mnist": DatasetSpec("MNIST", TRAIN, TEST, "MNIST/raw", MNIST_FILES),
    "fashion-mnist": DatasetSpec("FashionMNIST", TRAIN, TEST, "FashionMNIST/raw", MNIST_FILES),
    "kmnist": DatasetSpec("KMNIST", TRAIN, TEST, "KMNIST/raw", MNIST_FILES),
    "emnist": DatasetSpec("EMNIST", TRAIN | BALANCED, TEST | BALANCED, "EMNIST/raw", EMNIST_FILES),
    "eurosat": DatasetSpec("EuroSAT", {}, None, "eurosat", ("EuroSAT.zip",)),
    "food101": DatasetSpec("Food101", SPLIT_TRAIN, SPLIT_TEST, "", ("food-101.tar.gz",)),
    "imagenette": DatasetSpec("Imagenette", SPLIT_TRAIN, {"split": "val"}, "", ("imagenette2.tgz",)),
    # The forty attributes of a face are not classes: CelebA is read without labels.
    "celeba": DatasetSpec(
        "CelebA",
        {**SPLIT_TRAIN, "target_type": []},
        {**SPLIT_TEST, "target_type": []},
        "celeba",
        ("the folder img_align_celeba", "list_eval_partition.txt", "identity_CelebA.txt", *CELEBA_LISTS),
    ),
}
"""Specification of each dataset by its name."""


def torchvision_class(name: str) -> str | None:
    """Find the class of ``torchvision.datasets`` for a name, ignoring case and punctuation.

    Example:
        >>> torchvision_class("oxford-iiit-pet"), torchvision_class("cat photos")
        ('OxfordIIITPet', None)
    """
    import torchvision

    names = {each.lower(): each for each in torchvision.datasets.__all__}
    return names.get("".join(letter for letter in name.lower() if letter.isalnum()))


def read_dataset(
    name: str, root: Path, size: Size | None, download: bool, fit: Fit = "crop"
) -> tuple[Labeled, Labeled | None, tuple[str, ...]]:
    """Read the parts and the class names of a dataset in :data:`CATALOG`.

    Images that torchvision holds in an array keep their size. Images that are files are read one by one into a tensor
    ``n 3 h w`` of uint8, each as :class:`FolderImages` reads it.

    Returns:
        Training part, test part (None if torchvision has none), and class names.

    Raises:
        DataError: The files are missing and could not be downloaded (the message says where to put them), a file
            cannot be decoded, or the images do not fit into memory.
    """
    spec = CATALOG[name]
    parts = [_build(name, spec, options, root, download) for options in (spec.train, spec.test) if options is not None]
    if hasattr(getattr(parts[0], "data", None), "shape"):
        splits = [_from_arrays(part) for part in parts]
    else:
        wanted = size or _median_side(name, parts[0])
        splits = [_from_files(name, part, wanted, fit) for part in parts]
    top = max(int(split.labels.max()) for split in splits)
    names = getattr(parts[0], "classes", None) or range(top + 1)
    return splits[0], splits[1] if len(splits) > 1 else None, _class_names(names)


def _build(name: str, spec: DatasetSpec, options: dict[str, Any], root: Path, download: bool) -> Any:
    import torchvision

    build = getattr(torchvision.datasets, spec.class_name, None)
    if build is None:
        raise DataError(
            f"a torchvision that has {spec.class_name}", got=torchvision.__version__, fix="Update torchvision."
        )
    # Some classes refuse to download files that exist, therefore the first attempt only looks for them.
    for attempt in (False, True)[: 1 + download]:
        try:
            return build(root, **options, download=attempt)
        except (ImportError, OSError, RuntimeError, EOFError, ValueError) as error:  # noqa: PERF203 - two turns at most
            cause = error if isinstance(error, ImportError) else error.__context__
            # A user can put the files that gdown downloads into the folder by hand.
            if isinstance(cause, ImportError) and cause.name != "gdown":
                raise _missing_package(name, cause) from error
            failure = error
    reason = str(failure).strip().splitlines()[-1] if str(failure).strip() else type(failure).__name__
    raise DataError(
        f"the files of {name} in {root / spec.folder}",
        got=f"{type(failure).__name__}: {reason}" if download else "none, and download=False",
        fix=f"Put {', '.join(spec.files)} there and call again (download=True unpacks archives in place).",
    ) from failure


def _from_arrays(part: Any) -> Labeled:
    """Read images ``n c h w`` and labels from the arrays of a torchvision dataset."""
    images = channels_second(torch.as_tensor(part.data))
    labels = torch.as_tensor(part.targets if hasattr(part, "targets") else part.labels).long()
    return Labeled(as_uint8(images).contiguous(), labels)


def _from_files(name: str, part: Any, size: Size, fit: Fit) -> Labeled:
    """Read images ``n 3 h w`` and labels one by one; an item without a label gets -1."""
    count, (height, width) = len(part), height_width(size)
    try:
        images = torch.empty(count, 3, height, width, dtype=torch.uint8)
    except RuntimeError as error:
        raise DataError(
            f"memory for {count:,} images of 3x{height}x{width}",
            got=f"less than their {count * 3 * height * width / 1e9:,.0f} GB",
            fix="Choose a smaller size, or pass torchvision's own dataset to pretrain, which reads batch by batch.",
        ) from error
    labels = torch.empty(count, dtype=torch.int64)
    for row in range(count):
        image, label = _item(name, part, row)
        images[row] = resize(image[None], size, fit)[0]
        labels[row] = -1 if label is None else int(label)
    return Labeled(images, labels)


def _median_side(name: str, part: Any) -> int:
    rows = torch.linspace(0, len(part) - 1, min(MEASURED, len(part))).long().tolist()
    return min(DEFAULT_LIMIT, statistics.median_low(min(_item(name, part, row)[0].shape[1:]) for row in rows))


def _item(name: str, part: Any, index: int) -> tuple[Tensor, Any]:
    try:
        image, label = part[index]
        return pil_tensor(image), label
    except Exception as error:  # decoders raise almost any type of error for a damaged file
        raise DataError(
            f"image {index} of {name} to be decodable",
            got=reason(error),
            fix="Repair the file, or delete it and download the dataset again.",
        ) from error


def _missing_package(name: str, error: ImportError) -> DataError:
    package = (error.name or str(error)).partition(".")[0]
    return DataError(
        f"the package {package}, with which torchvision reads {name}",
        got="none",
        fix=f"Install it: pip install {package}.",
    )


def _class_names(classes: Iterable[Any]) -> tuple[str, ...]:
    # Classes of ImageNet and Imagenette have several names.
    return tuple(", ".join(name) if isinstance(name, tuple) else str(name) for name in classes)
