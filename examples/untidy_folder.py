"""Make a folder of photos that is as untidy as people's folders are, for own_photos.py.

photos/IMG_0000.jpg, photos/2023/Côte d'Azur/IMG 0001.PNG, photos/2024/02 Feb/best/IMG_0002.webp, ...
labels.csv      some of the photos with a word each, and two photos that are gone
new-photos/     photos to name
truth.csv       the words of new-photos, which no training sees
"""

from __future__ import annotations

import csv
from pathlib import Path

import torch
from PIL import Image
from torch import Generator, Tensor

import pretextkit as pk

FOLDERS = ("", "2023/Côte d'Azur", "2024/01 Jan", "2024/02 Feb/best")
KINDS = (
    *((".jpg", "RGB"), (".PNG", "RGBA"), (".webp", "RGB"), (".bmp", "L")),
    *((".jpeg", "CMYK"), (".tif", "RGB"), (".gif", "P")),
)
SYSTEM_FILES = ("Thumbs.db", ".DS_Store", "._IMG_0000.jpg", "2024/.hidden.png", "notes.txt")


def make_untidy_folder(
    folder: Path,
    data: str = "sample",
    *,
    classes: int | None = None,
    photos: int = 300,
    labels: int = 100,
    new: int = 100,
) -> None:
    """Write photos, labels.csv, new-photos and truth.csv into a folder.

    Args:
        folder: New folder.
        data: Any source of pretextkit.data.load.
        classes: Number of classes; all by default.
        photos: Number of photos, a damaged one included.
        labels: Number of labeled photos.
        new: Number of photos to name.
    """
    images = pk.data.load(data)
    chosen = draw(images.train_labels, classes, photos, seed=0)
    names = write_photos(images.train_images[chosen], folder / "photos")
    words = [images.class_names[label] for label in images.train_labels[chosen].tolist()]
    damage(folder / "photos", names)
    kept = pk.data.stratified_subset(images.train_labels[chosen[1:]], labels) + 1  # the first photo is damaged
    rows = [(names[row], words[row]) for row in kept.tolist()]
    write_table(folder / "labels.csv", [*rows, ("IMG_9998.jpg", words[0]), ("IMG_9999.jpg", words[1])])

    unseen = draw(images.test_labels, classes, new, seed=1)
    names = write_photos(images.test_images[unseen], folder / "new-photos")
    truth = [images.class_names[label] for label in images.test_labels[unseen].tolist()]
    write_table(folder / "truth.csv", list(zip(names, truth, strict=True)))


def draw(labels: Tensor, classes: int | None, count: int, seed: int) -> Tensor:
    """Draw the numbers of ``count`` images of the first classes."""
    order = torch.randperm(len(labels), generator=Generator().manual_seed(seed))
    return order[labels[order] < (classes or len(labels))][:count]


def write_photos(images: Tensor, folder: Path) -> list[str]:
    """Write images in several formats, modes, sizes and folders, and return their names."""
    names = []
    for number, image in enumerate(images):
        suffix, mode = KINDS[number % len(KINDS)]
        name = Path(FOLDERS[number % len(FOLDERS)], f"IMG{'_' if number % 2 else ' '}{number:04}{suffix}")
        pixels = image.expand(3, -1, -1).permute(1, 2, 0).numpy()
        width, height = (round(side * (1 + number % 3 / 2)) for side in reversed(pixels.shape[:2]))
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).resize((width + number % 9, height)).convert(mode).save(path)
        names.append(name.as_posix())
    return names


def damage(folder: Path, names: list[str]) -> None:
    """Cut off the end of the first photo, and add the files that systems leave behind."""
    content = (folder / names[0]).read_bytes()
    (folder / names[0]).write_bytes(content[: len(content) // 2])
    for name in SYSTEM_FILES:
        (folder / name).write_bytes(b"no image")


def write_table(path: Path, rows: list[tuple[str, str]]) -> None:
    """Write files and words as a CSV file."""
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("file", "class"), *rows])
