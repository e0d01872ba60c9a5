"""Random resized crops and flips, drawn for each image and computed for the full batch at once."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Generator, Tensor

from pretextkit._validation import check_float, check_float_images, check_int, check_sequence
from pretextkit.errors import OptionError
from pretextkit.views._random import bernoulli, select, uniform

__all__ = ["check_ends", "random_horizontal_flip", "random_resized_crop"]


def random_resized_crop(
    images: Tensor,
    size: int | tuple[int, int] | None = None,
    *,
    scale: tuple[float, float] = (0.2, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    generator: Generator,
) -> Tensor:
    """Crop a random box from each image and resize the crop.

    Bilinear resizing is linear and separable, so a crop is two small matrices per image, and the batch is two batched
    products. Downscaling uses a wider filter and does not alias. Boxes are drawn as in Szegedy et al. 2015
    (arXiv 1409.4842). Unlike in torchvision, a box that does not fit is clipped instead of redrawn, and its position is
    not rounded to integer pixels.

    Args:
        images: ``b c h w``.
        size: Height and width of the result, or one number for both; None keeps the size of the images.
        scale: Smallest and largest area of a box, as fractions of the image.
        ratio: Smallest and largest width / height, drawn on a logarithmic scale.
        generator: Source of the draws.

    Returns:
        ``b c h' w'``.

    Raises:
        OptionError: ``scale`` or ``ratio`` is not an ordered pair in its range, or ``size`` is below 1.
        ShapeError: The images are not ``b c h w``.
        DataError: The images are not of a floating-point dtype.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> random_resized_crop(torch.rand(4, 3, 40, 40), 32, generator=generator).shape
        torch.Size([4, 3, 32, 32])
    """
    scale = check_ends("scale", scale, "(0, 1]", fix="For example scale=(0.2, 1.0).")
    ratio = check_ends("ratio", ratio, "(0, inf)", fix="For example ratio=(3 / 4, 4 / 3).")
    check_float_images(images)
    height, width = images.shape[2:]
    fix = "Pass one number, or height and width."
    sides = (height, width) if size is None else size if isinstance(size, Iterable) else (size, size)
    two = check_sequence("size", sides, at_least=2, at_most=2, fix=fix)
    out_height, out_width = (check_int("size", side, fix=fix) for side in two)
    area = uniform(images, *scale, generator) * (height * width)
    aspect = uniform(images, math.log(ratio[0]), math.log(ratio[1]), generator).exp()
    box_width = (area * aspect).sqrt().clamp(max=width)
    box_height = (area / aspect).sqrt().clamp(max=height)
    left = uniform(images, 0, 1, generator) * (width - box_width)
    top = uniform(images, 0, 1, generator) * (height - box_height)
    rows = _resizing_matrix(top, box_height, height, out_height).to(images.dtype)
    columns = _resizing_matrix(left, box_width, width, out_width).to(images.dtype)
    across = torch.bmm(images.flatten(1, 2), columns.mT)  # one product for all channels
    return rows[:, None] @ across.view(*images.shape[:3], out_width)


def check_ends(name: str, ends: Any, within: str, *, fix: str) -> tuple[float, float]:
    """Check an option that is an ordered pair of numbers.

    Raises:
        OptionError: It is no such pair, or a number is out of range.

    Example:
        >>> check_ends("scale", (0.2, 1), "(0, 1]", fix="For example (0.2, 1.0).")
        (0.2, 1.0)
    """
    two = check_sequence(name, ends, at_least=2, at_most=2, fix=fix)
    low, high = (check_float(name, end, within, fix=fix) for end in two)
    if low > high:
        raise OptionError(f"{name} to be an ordered pair (smallest, largest)", got=ends, fix=fix)
    return low, high


def _resizing_matrix(start: Tensor, length: Tensor, size_in: int, size_out: int) -> Tensor:
    """Make bilinear filters ``b size_out size_in`` that resize a segment of a line to ``size_out`` pixels."""
    steps = (torch.arange(size_out, device=start.device) + 0.5) / size_out
    centers = start[:, None] + steps * length[:, None] - 0.5
    support = (length / size_out).clamp(min=1)[:, None, None]
    distance = (centers[:, :, None] - torch.arange(size_in, device=start.device)).abs()
    weights = (1 - distance / support).clamp(min=0)
    return weights / weights.sum(2, keepdim=True)


def random_horizontal_flip(images: Tensor, p: float = 0.5, *, generator: Generator) -> Tensor:
    """Flip each image left to right with probability ``p``.

    Args:
        images: ``b c h w``.
        p: Probability of a flip; use 0 for digits and letters, because flips change their meaning.
        generator: Source of the draws.

    Returns:
        ``b c h w``.

    Raises:
        OptionError: ``p`` is not in [0, 1].
        ShapeError: The images are not ``b c h w``.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> random_horizontal_flip(torch.tensor([[[[1.0, 2.0]]]]), p=1.0, generator=generator)
        tensor([[[[2., 1.]]]])
    """
    flipped = bernoulli(images, p, generator)
    return select(flipped, images.flip(3), images)
