"""Batch types of pretext tasks: one named tuple per kind of views.

Letters in shapes: ``b`` batch, ``c`` channels, ``h w`` height and width, ``p`` side of a patch, in pixels.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

__all__ = ["ImageToImage", "Labeled", "Masked", "MultiViews", "PatchPair", "Tiles", "TwoViews"]


class Labeled(NamedTuple):
    """Images with labels, made by a task or by annotators."""

    images: Tensor
    """``b c h w``, float in [0, 1]."""
    labels: Tensor
    """``b``, int64."""


class ImageToImage(NamedTuple):
    """Input images, and the target images of a reconstruction."""

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


class MultiViews(NamedTuple):
    """Several random views of each image, large and small; row ``i`` of every view shows the same image."""

    global_views: tuple[Tensor, ...]
    """Each ``b c h w``, float in [0, 1]: most of the image."""
    local_views: tuple[Tensor, ...]
    """Each ``b c h' w'``, float in [0, 1]: a small part of the image; there may be none."""


class PatchPair(NamedTuple):
    """Center patches, one of the eight neighbors of each, and its position."""

    center: Tensor
    """``b c p p``."""
    neighbor: Tensor
    """``b c p p``."""
    position: Tensor
    """``b``, int64 in 0…7, row by row without the center: 0 is top left, 7 bottom right."""


class Tiles(NamedTuple):
    """Nine shuffled tiles of each image, and the index of the permutation."""

    tiles: tuple[Tensor, ...]
    """Nine times ``b c p p``, in shuffled order: row by row, from top left to bottom right."""
    permutation: Tensor
    """``b``, int64: index of the permutation."""


class Masked(NamedTuple):
    """Images with hidden pixels, and the original images."""

    visible: Tensor
    """``b c h w``: the images with the hidden pixels replaced."""
    mask: Tensor
    """``b 1 h w``, bool: True where pixels are hidden."""
    target: Tensor
    """``b c h w``: the original images."""
