"""Resizing of images ``b c h w``, and of values on them."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from pretextkit.data._image_size import height_width
from pretextkit.data._types import Size
from pretextkit.errors import OptionError

__all__ = [
    "LONGEST",
    "Fit",
    "check_fit",
    "covering_sides",
    "longest_sides",
    "lost_area",
    "map_to_pixels",
    "padded_box",
    "resize",
    "resize_and_crop",
    "scale",
]

Fit: TypeAlias = Literal["crop", "pad", "stretch"]
"""How an image gets another shape: crop the center, repeat the border pixels, or scale each axis by itself."""

LONGEST = 16
"""Most areas of the result before the crop: longer sides are cropped first, because the center crop removes them."""


def resize_and_crop(images: Tensor, size: Size, full: tuple[int, int] | None = None) -> Tensor:
    """Scale ``b c h w`` with antialiasing until it covers ``size``, and crop the center: ``b c height width``.

    Args:
        images: ``b c h w``, uint8 or float.
        size: Size of the result; of a square, the shorter side is scaled to ``size``.
        full: Height and width before a reduction while decoding, which may round them; by default those of ``images``.

    Example:
        >>> resize_and_crop(torch.zeros(2, 3, 40, 60, dtype=torch.uint8), 32).shape
        torch.Size([2, 3, 32, 32])
        >>> resize_and_crop(torch.zeros(2, 3, 40, 60, dtype=torch.uint8), (20, 32)).shape
        torch.Size([2, 3, 20, 32])
    """
    height, width = images.shape[-2:]
    longest = longest_sides(height, width, size)
    if height > longest[0] or width > longest[1]:  # scaling a line of a million pixels would fill the memory
        height, width = min(height, longest[0]), min(width, longest[1])
        images, full = _middle(images, height, width), None
    height, width = full or (height, width)
    return _middle(scale(images, covering_sides(height, width, size)), *height_width(size))


def covering_sides(height: int, width: int, size: Size) -> list[int]:
    """Give the height and width of an image after scaling until it covers ``size``, before the crop.

    Example:
        >>> covering_sides(40, 60, 32), covering_sides(40, 60, (20, 32))
        ([32, 48], [21, 32])
    """
    rows, columns = height_width(size)
    if rows * width >= columns * height:
        return [rows, max(columns, round(width * rows / height))]
    return [max(rows, round(height * columns / width)), columns]


def longest_sides(height: int, width: int, size: Size) -> tuple[int, int]:
    """Give the longest sides of an image whose scaling to ``size`` has at most sixteen times its area.

    Example:
        >>> longest_sides(10, 1000, 32), longest_sides(10, 1000, (16, 32))
        ((16000, 160), (8000, 320))
    """
    rows, columns = height_width(size)
    return LONGEST * -(-width * rows // columns), LONGEST * -(-height * columns // rows)


def check_fit(fit: str | None) -> None:
    """Check the option ``fit``; None is allowed."""
    if fit not in (None, "crop", "pad", "stretch"):
        raise OptionError('fit "crop", "pad" or "stretch"', got=repr(fit), fix='"pad" keeps the full image.')


def resize(images: Tensor, size: Size, fit: Fit, full: tuple[int, int] | None = None) -> Tensor:
    """Give images ``b c h w`` one size: ``b c height width``. Images of its proportions are the same with each ``fit``.

    Args:
        images: ``b c h w``, uint8 or float.
        size: Size of the result.
        fit: ``"crop"`` scales the image until it covers the size and crops the center; ``"pad"`` scales it until it
            fits in and repeats the pixels of the border; ``"stretch"`` scales each side by itself.
        full: Height and width before a reduction while decoding, which may round them; by default those of ``images``.

    Example:
        >>> images = torch.arange(4, dtype=torch.uint8).view(1, 1, 2, 2).repeat_interleave(2, 3)
        >>> resize(images, 4, "pad")[0, 0].tolist()
        [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]]
        >>> resize(images, (2, 3), "crop")[0, 0].tolist()
        [[0, 0, 1], [2, 2, 3]]
    """
    height, width = full or images.shape[-2:]
    rows, columns = height_width(size)
    if fit == "crop" or height * columns == width * rows:
        return resize_and_crop(images, size, full)
    if fit == "stretch":
        return scale(images, [rows, columns])
    target, (top, left) = padded_box(height, width, size)
    inside_rows = (torch.arange(rows) - top).clamp(0, target[0] - 1)
    inside_columns = (torch.arange(columns) - left).clamp(0, target[1] - 1)
    return scale(images, target)[..., inside_rows[:, None], inside_columns]


def padded_box(height: int, width: int, size: Size) -> tuple[list[int], tuple[int, int]]:
    """Give the height and width of an image within its padded size, and the position of its first pixel.

    Example:
        >>> padded_box(20, 40, 8), padded_box(20, 40, (8, 8)), padded_box(20, 40, (6, 8))
        (([4, 8], (2, 0)), ([4, 8], (2, 0)), ([4, 8], (1, 0)))
    """
    rows, columns = height_width(size)
    if height * columns >= width * rows:
        target = [rows, min(columns, max(1, round(width * rows / height)))]
    else:
        target = [min(rows, max(1, round(height * columns / width))), columns]
    return target, ((rows - target[0]) // 2, (columns - target[1]) // 2)


def lost_area(height: int, width: int, size: Size = 1) -> float:
    """Give the share of the area that the center crop removes, by default of a square.

    Example:
        >>> lost_area(30, 40), lost_area(30, 40, (240, 320))
        (0.25, 0.0)
    """
    rows, columns = height_width(size)
    return 1 - min(height * columns, width * rows) / max(height * columns, width * rows)


def map_to_pixels(values: Tensor, height: int, width: int, size: Size, fit: Fit) -> Tensor:
    """Resize a map of a resized image to the pixels of the image before :func:`resize`.

    Args:
        values: ``h w``, float: a number for each pixel of the resized image, also at another resolution.
        height: Height of the image before :func:`resize`.
        width: Width of that image.
        size: Size of the resized image.
        fit: The ``fit`` of :func:`resize`.

    Returns:
        ``height width``, float32; NaN for pixels that the crop removed.

    Example:
        >>> map_to_pixels(torch.ones(2, 2), 2, 4, 2, "crop").isnan().any(0)
        tensor([ True, False, False,  True])
    """
    rows, columns = height_width(size)
    resized = _interpolated(values.float(), [rows, columns])
    if fit == "stretch" or height * columns == width * rows:
        return _interpolated(resized, [height, width])
    if fit == "pad":
        target, (top, left) = padded_box(height, width, size)
        return _interpolated(resized[top : top + target[0], left : left + target[1]], [height, width])
    kept = [min(height, round(width * rows / columns)), min(width, round(height * columns / rows))]
    result = values.new_full((height, width), torch.nan, dtype=torch.float32)
    top, left = (height - kept[0]) // 2, (width - kept[1]) // 2
    result[top : top + kept[0], left : left + kept[1]] = _interpolated(resized, kept)
    return result


def _interpolated(values: Tensor, target: list[int]) -> Tensor:
    if list(values.shape) == target:
        return values
    return interpolate(values[None, None], target, mode="bilinear", align_corners=False)[0, 0]


def scale(images: Tensor, target: list[int]) -> Tensor:
    """Scale each side of images ``b c h w`` by itself, with antialiasing.

    Example:
        >>> scale(torch.zeros(2, 3, 8, 8, dtype=torch.uint8), [4, 6]).shape
        torch.Size([2, 3, 4, 6])
    """
    if list(images.shape[-2:]) == target:
        return images
    if target[1] == 1:  # torch 2.15 scales uint8 to a width of 1 wrongly, or fails an internal assertion
        scaled = interpolate(images.float(), target, mode="bilinear", antialias=True)
        return scaled if images.is_floating_point() else scaled.round().byte()
    return interpolate(images, target, mode="bilinear", antialias=True)


def _middle(images: Tensor, height: int, width: int) -> Tensor:
    top, left = (images.shape[-2] - height) // 2, (images.shape[-1] - width) // 2
    return images[..., top : top + height, left : left + width]
