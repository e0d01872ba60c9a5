"""Create the embedded FashionMNIST sample from the four original files.

    python scripts/make_sample.py --data DIR

``DIR`` holds ``train-images-idx3-ubyte.gz`` and its three siblings, as published at
https://github.com/zalandoresearch/fashion-mnist (Debian: package ``dataset-fashion-mnist``, in
``/usr/share/datasets/fashion-mnist``). The script takes the first images of each class, in the order of the files, and
arranges them as tiles of one gray PNG for each split, class by class: the position of a tile gives its label.
"""

from __future__ import annotations

import argparse
import gzip
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

FOLDER = Path(__file__).parents[1] / "src" / "pretextkit" / "data" / "fashion_mnist_sample"
SPLITS = {"train": ("train", 800, 100), "test": ("t10k", 200, 50)}
"""Prefix of the original files, images of each class, and tiles in a row, for each split."""


def read_idx(path: Path) -> Any:
    """Read one gzipped IDX file of bytes."""
    content = gzip.decompress(path.read_bytes())
    rank = content[3]
    shape = np.frombuffer(content, ">i4", rank, offset=4).tolist()
    return np.frombuffer(content, np.uint8, offset=4 + 4 * rank).reshape(shape)


def first_of_each_class(images: Any, labels: Any, count: int) -> Any:
    """Take the first ``count`` images of each class, class after class."""
    return np.concatenate([images[labels == label][:count] for label in range(10)])


def sheet(tiles: np.ndarray[Any, Any], columns: int) -> Any:
    """Arrange tiles ``n h w`` in a sheet, row by row."""
    n, height, width = tiles.shape
    return tiles.reshape(n // columns, columns, height, width).swapaxes(1, 2).reshape(-1, columns * width)


def main() -> None:
    """Write ``train.png`` and ``test.png``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--to", type=Path, default=FOLDER, metavar="DIR")
    options = parser.parse_args()
    for split, (prefix, count, columns) in SPLITS.items():
        images = read_idx(options.data / f"{prefix}-images-idx3-ubyte.gz")
        labels = read_idx(options.data / f"{prefix}-labels-idx1-ubyte.gz")
        path = options.to / f"{split}.png"
        Image.fromarray(sheet(first_of_each_class(images, labels, count), columns)).save(path, optimize=True)
        print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
