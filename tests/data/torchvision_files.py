"""Tiny files in the place and form in which torchvision looks for each set: ten pictures to train on, four to test on.

There are two classes. The first is as bright as ``level(0)``, the second as ``level(1)``, so that a picture tells its
label.
"""

from __future__ import annotations

import bz2
import csv
import json
import pickle
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

TRAIN, TEST = 5, 2
"""Pictures of each class."""

WITHOUT_CHECKSUMS = ("caltech", "celeba", "cifar", "fer2013", "imagenet", "lfw", "places365", "semeion", "stl10")
"""Modules of torchvision that compare files with the published ones; the others look for files only."""


def level(label: int) -> int:
    return 60 + 100 * label


def picture(path: Path, label: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (12, 10), (level(label),) * 3).save(path)


def text(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def write_idx(path: Path, values: np.ndarray[Any, Any]) -> None:
    kind = 8 if values.dtype == np.uint8 else 12
    header = struct.pack(f">BBBB{values.ndim}i", 0, 0, kind, values.ndim, *values.shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header + values.astype(">u1" if kind == 8 else ">i4").tobytes())


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


def caltech256(root: Path) -> None:
    for label, kind in enumerate(("001.ak47", "002.flag")):
        for i in range(1, TRAIN + TEST + 1):
            picture(root / "caltech256/256_ObjectCategories" / kind / f"{label + 1:03d}_{i:04d}.jpg", label)


def caltech101(root: Path) -> None:
    folder = root / "caltech101/101_ObjectCategories"
    picture(folder / "BACKGROUND_Google/image_0001.jpg", 0)
    for label, kind in enumerate(("ant", "crab")):
        for i in range(1, TRAIN + TEST + 1):
            picture(folder / kind / f"image_{i:04d}.jpg", label)


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


def clevr(root: Path) -> None:
    folder = root / "clevr/CLEVR_v1.0"
    for split, count in (("train", TRAIN), ("val", TEST)):
        scenes = []
        for i in range(2 * count):
            picture(folder / "images" / split / f"{i}.png", i % 2)
            scenes.append({"image_filename": f"{i}.png", "objects": [0] * (3 + i % 2)})
        text(folder / "scenes" / f"CLEVR_{split}_scenes.json", json.dumps({"scenes": scenes}))


def country211(root: Path) -> None:
    for split, count in part_sizes():
        class_folders(root / "country211" / split, count, ("AD", "AE"))


def dtd(root: Path) -> None:
    folder = root / "dtd/dtd"
    for split, count in part_sizes():
        class_folders(folder / "images", count, ("banded", "woven"), split + "{}.jpg")
        lines = [f"{kind}/{split}{i}.jpg" for kind in ("banded", "woven") for i in range(count)]
        text(folder / "labels" / f"{split}1.txt", *lines)


def emnist(split: str, first: int = 0) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        for part, count in part_sizes():
            images, labels = arrays(count, 28, 28)
            start = f"emnist-{split}-{part}"
            write_idx(root / "EMNIST/raw" / f"{start}-images-idx3-ubyte", images)
            write_idx(root / "EMNIST/raw" / f"{start}-labels-idx1-ubyte", labels + np.uint8(first))

    return write


def eurosat(root: Path) -> None:
    class_folders(root / "eurosat/2750", TRAIN + TEST, ("Forest", "River"))


def fer2013(root: Path) -> None:
    (root / "fer2013").mkdir(parents=True)
    with (root / "fer2013/fer2013.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["emotion", "pixels", "Usage"])
        for usage, count in (("Training", TRAIN), ("PublicTest", 1), ("PrivateTest", TEST - 1)):
            for label in [0, 1] * count:
                writer.writerow([label, " ".join([str(level(label))] * 48**2), usage])


def fgvc_aircraft(root: Path) -> None:
    folder = root / "fgvc-aircraft-2013b/data"
    text(folder / "variants.txt", "707-320", "Yak-42")
    for split, count in (("trainval", TRAIN), ("test", TEST)):
        kinds = ["707-320", "Yak-42"] * count
        for i in range(2 * count):
            picture(folder / "images" / f"{split}{i}.jpg", i % 2)
        text(folder / f"images_variant_{split}.txt", *(f"{split}{i} {kind}" for i, kind in enumerate(kinds)))


def food101(root: Path) -> None:
    folder = root / "food-101"
    for split, count in part_sizes():
        class_folders(folder / "images", count, ("pizza", "waffles"), split + "{}.jpg")
        files = {kind: [f"{kind}/{split}{i}" for i in range(count)] for kind in ("pizza", "waffles")}
        text(folder / "meta" / f"{split}.json", json.dumps(files))


def gtsrb(root: Path) -> None:
    folder = root / "gtsrb/GTSRB"
    class_folders(folder / "Training", TRAIN, ("00000", "00001"), "{}.ppm")
    for i in range(2 * TEST):
        picture(folder / "Final_Test/Images" / f"{i}.ppm", i % 2)
    text(root / "gtsrb/GT-final_test.csv", "Filename;ClassId", *(f"{i}.ppm;{i % 2}" for i in range(2 * TEST)))


def imagenet(root: Path) -> None:
    class_folders(root / "train", TRAIN, ("n01440764", "n01443537"), "{}.JPEG")
    class_folders(root / "val", TEST, ("n01440764", "n01443537"), "{}.JPEG")
    names = {"n01440764": ("tench", "Tinca tinca"), "n01443537": ("goldfish",)}
    torch.save((names, ["n01440764"]), root / "meta.bin")


def imagenette(root: Path) -> None:
    class_folders(root / "imagenette2/train", TRAIN, ("n01440764", "n02102040"), "{}.jpeg")
    class_folders(root / "imagenette2/val", TEST, ("n01440764", "n02102040"), "{}.jpeg")


def inaturalist(root: Path) -> None:
    species = ("00000_Animalia_A_B_C_D_E_f", "00001_Plantae_A_B_C_D_E_f")
    class_folders(root / "2021_train", TRAIN, species)
    class_folders(root / "2021_valid", TEST, species)


def lfw_people(root: Path) -> None:
    folder = root / "lfw-py"
    for label, person in enumerate(("Ada", "Bob")):
        for i in range(1, TRAIN + TEST + 1):
            picture(folder / "lfw_funneled" / person / f"{person}_{i:04d}.jpg", label)
    text(folder / "lfw-names.txt", "Ada 7", "Bob 7")
    text(folder / "people.txt", "2", "1", "Ada\t7", "1", "Bob\t7")
    text(folder / "lfw-funneled.tgz")


def mnist(folder: str) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        for part, count in (("train", TRAIN), ("t10k", TEST)):
            images, labels = arrays(count, 28, 28)
            write_idx(root / folder / "raw" / f"{part}-images-idx3-ubyte", images)
            write_idx(root / folder / "raw" / f"{part}-labels-idx1-ubyte", labels)

    return write


def oxford_iiit_pet(root: Path) -> None:
    folder = root / "oxford-iiit-pet"
    for split, count in (("trainval", TRAIN), ("test", TEST)):
        lines = []
        for i in range(count):
            for label, kind in enumerate(("Abyssinian", "basset_hound")):
                picture(folder / "images" / f"{kind}_{split}{i}.jpg", label)
                lines.append(f"{kind}_{split}{i} {label + 1} {label + 1} 1")
        text(folder / "annotations" / f"{split}.txt", *lines)


def places365(root: Path) -> None:
    text(root / "categories_places365.txt", "/a/airfield 0", "/z/zen_garden 1")
    kinds = ("a/airfield", "z/zen_garden")
    class_folders(root / "data_256_standard", TRAIN, kinds)
    lines = [f"/{kind}/{i}.jpg {label}" for label, kind in enumerate(kinds) for i in range(TRAIN)]
    text(root / "places365_train_standard.txt", *lines)
    for i in range(2 * TEST):
        picture(root / "val_256" / f"{i}.jpg", i % 2)
    text(root / "places365_val.txt", *(f"{i}.jpg {i % 2}" for i in range(2 * TEST)))


def qmnist(root: Path) -> None:
    for part, count in part_sizes():
        images, labels = arrays(count, 28, 28)
        more = np.full((len(labels), 8), 9, dtype=np.int32)
        more[:, 0] = labels
        write_idx(root / "QMNIST/raw" / f"qmnist-{part}-images-idx3-ubyte", images)
        write_idx(root / "QMNIST/raw" / f"qmnist-{part}-labels-idx2-int", more)


def rendered_sst2(root: Path) -> None:
    for split, count in part_sizes():
        class_folders(root / "rendered-sst2" / split, count, ("negative", "positive"), "{}.png")


def semeion(root: Path) -> None:
    """Its pixels are 0 or 1: class 0 is dark and class 1 bright."""
    labels = [0, 1] * (TRAIN + TEST)
    rows = [" ".join([str(label)] * 256 + [str(int(label == k)) for k in range(10)]) for label in labels]
    text(root / "semeion.data", *rows)


def stl10(root: Path) -> None:
    folder = root / "stl10_binary"
    folder.mkdir(parents=True)
    for split, count in part_sizes():
        images, labels = arrays(count, 3, 96, 96)
        (folder / f"{split}_X.bin").write_bytes(images.tobytes())
        (folder / f"{split}_y.bin").write_bytes((labels + 1).tobytes())
    (folder / "unlabeled_X.bin").write_bytes(arrays(1, 3, 96, 96)[0].tobytes())
    text(folder / "class_names.txt", "airplane", "bird")


def sun397(root: Path) -> None:
    text(root / "SUN397/ClassName.txt", "/a/abbey", "/b/barn/indoor")
    class_folders(root / "SUN397", TRAIN + TEST, ("a/abbey", "b/barn/indoor"), "sun_{}.jpg")


def usps(root: Path) -> None:
    for name, count in (("usps.bz2", TRAIN), ("usps.t.bz2", TEST)):
        labels = [0, 1] * count
        rows = [
            " ".join([str(label + 1), *(f"{i}:{level(label) / 127.5 - 1:.6f}" for i in range(1, 257))])
            for label in labels
        ]
        (root / name).write_bytes(bz2.compress("\n".join(rows).encode()))
