"""What a pretext task's views look like: one named tuple per kind of batch.

Letters in shapes: ``b`` batch, ``c`` channels, ``h w`` pixels, ``p`` patch pixels.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

__all__ = ["ImageToImage", "Labeled", "Masked", "PatchPair", "Tiles", "TwoViews"]


class Labeled(NamedTuple):
    """Images with the labels a task made for them (or a person did)."""

    images: Tensor
    """``b c h w``, float in [0, 1]."""
    labels: Tensor
    """``b``, int64."""


class ImageToImage(NamedTuple):
    """Images to be shown, and the images to be made of them."""

    input: Tensor
    """``b c h w``, float in [0, 1]."""
    target: Tensor
    """``b c h w``, float in [0, 1]."""


class TwoViews(NamedTuple):
    """Two random views of each image; row ``i`` of both shows the same image."""

    a: Tensor
    """``b c h w``, float in [0, 1]."""
    b: Tensor
    """``b c h w``, float in [0, 1]."""


class PatchPair(NamedTuple):
    """A center patch, one of its eight neighbors, and which one it is."""

    center: Tensor
    """``b c p p``."""
    neighbor: Tensor
    """``b c p p``."""
    position: Tensor
    """``b``, int64 in 0…7, row by row without the center: 0 is above left, 7 below right."""


class Tiles(NamedTuple):
    """The nine tiles of each image in a shuffled order, and which order it is."""

    tiles: tuple[Tensor, ...]
    """Nine times ``b c p p``, as shown: row by row, from above left to below right."""
    permutation: Tensor
    """``b``, int64: number of the order."""


class Masked(NamedTuple):
    """Images with a hidden region, and what was there."""

    visible: Tensor
    """``b c h w``: the images with the hidden pixels replaced."""
    mask: Tensor
    """``b 1 h w``, bool: True where pixels are hidden."""
    target: Tensor
    """``b c h w``: the images as they were."""
