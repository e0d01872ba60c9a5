"""Well-known image sets, read and downloaded by torchvision."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pretextkit.data.npz import as_uint8
from pretextkit.data.pixels import channels_second
from pretextkit.errors import DataError

__all__ = ["KNOWN", "KnownSet", "read_known"]

# Unpacked: torchvision takes these as they are, and the .gz files only with the very bytes first published.
MNIST_FILES = tuple(
    f"{part}-ubyte" for part in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
)


class KnownSet(NamedTuple):
    """How torchvision names a set, its parts and its files."""

    class_name: str
    """In ``torchvision.datasets``."""
    train: dict[str, Any]
    """Constructor's options for the training part."""
    test: dict[str, Any]
    folder: str
    """Where torchvision looks for the files, below its root."""
    files: tuple[str, ...]


KNOWN = {
    "cifar10": KnownSet("CIFAR10", {"train": True}, {"train": False}, "", ("cifar-10-python.tar.gz",)),
    "cifar100": KnownSet("CIFAR100", {"train": True}, {"train": False}, "", ("cifar-100-python.tar.gz",)),
    "fashion-mnist": KnownSet("FashionMNIST", {"train": True}, {"train": False}, "FashionMNIST/raw", MNIST_FILES),
    "mnist": KnownSet("MNIST", {"train": True}, {"train": False}, "MNIST/raw", MNIST_FILES),
    # STL10 is made for learning without labels: 100,000 of its 105,000 training images have none.
    "stl10": KnownSet("STL10", {"split": "train+unlabeled"}, {"split": "test"}, "", ("stl10_binary.tar.gz",)),
    "svhn": KnownSet("SVHN", {"split": "train"}, {"split": "test"}, "", ("train_32x32.mat", "test_32x32.mat")),
}
"""Name: what torchvision needs."""


def read_known(name: str, root: Path, download: bool) -> tuple[Tensor, Tensor, Tensor, Tensor, tuple[str, ...]]:
    """Read train images and labels, test images and labels, and class names of the set ``name``.

    Raises:
        DataError: The files are not there and could not be downloaded; the message says where to put them.
    """
    from torchvision import datasets

    known = KNOWN[name]
    build = getattr(datasets, known.class_name)
    try:
        parts = [build(root, download=download, **options) for options in (known.train, known.test)]
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        raise DataError(
            f"the files of {name} in {root / known.folder}",
            got=f"{type(error).__name__}: {reason}" if download else "none, and download=False",
            fix=f"Put {', '.join(known.files)} there and call again (download=True unpacks archives in place).",
        ) from error
    except ImportError as error:  # SVHN's files are MATLAB's
        raise DataError(
            f"SciPy, with which torchvision reads {name}", got=str(error), fix="Install it: pip install scipy."
        ) from error
    (train, train_labels), (test, test_labels) = (_arrays(part) for part in parts)
    names = tuple(str(label) for label in getattr(parts[0], "classes", range(int(train_labels.max()) + 1)))
    return train, train_labels, test, test_labels, names


def _arrays(part: Any) -> tuple[Tensor, Tensor]:
    """Give the images ``n c h w`` and labels of a torchvision set, from its arrays and not image by image."""
    labels = part.targets if hasattr(part, "targets") else part.labels
    images = channels_second(torch.as_tensor(part.data))
    return as_uint8(images).contiguous(), torch.as_tensor(labels).long()
