"""Tiny files in the layout of each torchvision dataset: ten training and four test images of two classes.

All images of class 0 have the brightness ``level(0)``, and all images of class 1 have ``level(1)``: an image shows its
label.
"""

from __future__ import annotations

import json
import pickle
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

TRAIN, TEST = 5, 2
"""Images per class."""

WITHOUT_CHECKSUMS = ("celeba", "cifar", "stl10")
"""Modules of torchvision that verify the checksums of existing files."""


def level(label: int) -> int:
    return 60 + 100 * label


def picture(path: Path, label: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (12, 10), (level(label),) * 3).save(path)


def text(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def write_idx(path: Path, values: np.ndarray[Any, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack(f">BBBB{values.ndim}i", 0, 0, 8, values.ndim, *values.shape) + values.tobytes())


def part_sizes() -> Iterator[tuple[str, int]]:
    yield from (("train", TRAIN), ("test", TEST))


def arrays(count: int, *shape: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    labels = np.arange(2 * count, dtype=np.uint8) % 2
    images = np.stack([np.full(shape, level(int(label)), dtype=np.uint8) for label in labels])
    return images, labels


def class_folders(root: Path, count: int, classes: tuple[str, str], name: str = "{}.jpg") -> None:
    for label, kind in enumerate(classes):
        for i in range(count):
            picture(root / kind / name.format(i), label)


def celeba(root: Path) -> None:
    folder = root / "celeba"
    files = [f"{i:06d}.jpg" for i in range(2 * (TRAIN + TEST))]
    for i, file in enumerate(files):
        picture(folder / "img_align_celeba" / file, i % 2)
    text(folder / "list_eval_partition.txt", *(f"{file} {0 if i < 2 * TRAIN else 2}" for i, file in enumerate(files)))
    text(folder / "identity_CelebA.txt", *(f"{file} 7" for file in files))
    for name in ("attr", "bbox", "landmarks_align"):
        text(folder / f"list_{name}_celeba.txt", "14", "Bald Young", *(f"{file} 1 -1" for file in files))


def cifar10(root: Path) -> None:
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    batches = [f"data_batch_{i}" for i in range(1, 6)]
    images, labels = arrays(TRAIN, 3072)
    parts = [*zip(batches, np.split(images, 5), np.split(labels, 5), strict=True), ("test_batch", *arrays(TEST, 3072))]
    for name, images, labels in parts:
        (folder / name).write_bytes(pickle.dumps({"data": images, "labels": labels.tolist()}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": ["cat", "dog"]}))


def cifar100(root: Path) -> None:
    folder = root / "cifar-100-python"
    folder.mkdir(parents=True)
    for name, count in part_sizes():
        images, labels = arrays(count, 3072)
        (folder / name).write_bytes(pickle.dumps({"data": images, "fine_labels": labels.tolist()}))
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": ["cat", "dog"]}))


def emnist(root: Path) -> None:
    for part, count in part_sizes():
        images, labels = arrays(count, 28, 28)
        write_idx(root / "EMNIST/raw" / f"emnist-balanced-{part}-images-idx3-ubyte", images)
        write_idx(root / "EMNIST/raw" / f"emnist-balanced-{part}-labels-idx1-ubyte", labels)


def eurosat(root: Path) -> None:
    class_folders(root / "eurosat/2750", TRAIN + TEST, ("Forest", "River"))


def food101(root: Path) -> None:
    folder = root / "food-101"
    for split, count in part_sizes():
        class_folders(folder / "images", count, ("pizza", "waffles"), split + "{}.jpg")
        files = {kind: [f"{kind}/{split}{i}" for i in range(count)] for kind in ("pizza", "waffles")}
        text(folder / "meta" / f"{split}.json", json.dumps(files))


def imagenette(root: Path) -> None:
    class_folders(root / "imagenette2/train", TRAIN, ("n01440764", "n02102040"), "{}.jpeg")
    class_folders(root / "imagenette2/val", TEST, ("n01440764", "n02102040"), "{}.jpeg")


def mnist(folder: str) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        for part, count in (("train", TRAIN), ("t10k", TEST)):
            images, labels = arrays(count, 28, 28)
            write_idx(root / folder / "raw" / f"{part}-images-idx3-ubyte", images)
            write_idx(root / folder / "raw" / f"{part}-labels-idx1-ubyte", labels)

    return write


def stl10(root: Path) -> None:
    folder = root / "stl10_binary"
    folder.mkdir(parents=True)
    for split, count in part_sizes():
        images, labels = arrays(count, 3, 96, 96)
        (folder / f"{split}_X.bin").write_bytes(images.tobytes())
        (folder / f"{split}_y.bin").write_bytes((labels + 1).tobytes())
    (folder / "unlabeled_X.bin").write_bytes(arrays(1, 3, 96, 96)[0].tobytes())
    text(folder / "class_names.txt", "airplane", "bird")
