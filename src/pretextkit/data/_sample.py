"""The embedded sample: 10,000 images of FashionMNIST, which need no network."""

from __future__ import annotations

from importlib.resources import files

import torch
from torch import Generator, Tensor

from pretextkit.batches import Labeled
from pretextkit.data._image_conversion import pil_tensor

__all__ = ["CLASS_NAMES", "read_sample"]

CLASS_NAMES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
"""Class ``i`` of FashionMNIST has label ``i``."""

SIDE = 28


def read_sample(split: str) -> Labeled:
    """Read one split of the FashionMNIST sample.

    The images are the first 800 (train) or 200 (test) of each class in the original files (Xiao, Rasul, Vollgraf 2017,
    arXiv 1708.07747; MIT license, Copyright (c) 2017 Zalando SE), always in the same shuffled order.

    Args:
        split: ``"train"`` or ``"test"``.

    Returns:
        Images ``n 1 28 28`` uint8 and labels ``n`` int64.

    Example:
        >>> images, labels = read_sample("test")
        >>> images.shape, labels.bincount().unique()
        (torch.Size([2000, 1, 28, 28]), tensor([200]))
    """
    tiles = read_tiles(split)
    labels = torch.arange(len(CLASS_NAMES)).repeat_interleave(len(tiles) // len(CLASS_NAMES))
    # Shuffled, because a prefix must contain every class; with a fixed seed, because the order must not change.
    order = torch.randperm(len(tiles), generator=Generator().manual_seed(0))
    return Labeled(tiles[order], labels[order])


def read_tiles(split: str) -> Tensor:
    """Read one split ``n 1 28 28`` in the stored order: class by class."""
    from PIL import Image

    with (files("pretextkit.data") / "fashion_mnist_sample" / f"{split}.png").open("rb") as file:
        sheet = pil_tensor(Image.open(file))
    return sheet.unfold(1, SIDE, SIDE).unfold(2, SIDE, SIDE).reshape(-1, 1, SIDE, SIDE)
