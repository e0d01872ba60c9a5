"""Masks of hidden pixels, drawn for each image, and their application."""

from __future__ import annotations

import torch
from einops import repeat
from torch import Generator, Tensor

from pretextkit._validation import check_float, check_float_images, check_int, check_view_images
from pretextkit.errors import ShapeError
from pretextkit.views._random import randint

__all__ = ["hide_pixels", "mask_blocks", "mask_center", "mask_patches"]


def mask_center(images: Tensor, side: float = 0.5) -> Tensor:
    """Mask the center block of each image.

    Args:
        images: ``b c h w``, at least 2x2 pixels.
        side: Height and width of the block, as a fraction of the image.

    Returns:
        ``b 1 h w``, bool.

    Raises:
        OptionError: ``side`` is not between 0 and 1.
        ShapeError: The images are not ``b c h w`` of at least 2x2 pixels.

    Example:
        >>> mask_center(torch.zeros(1, 3, 4, 4)).int()
        tensor([[[[0, 0, 0, 0],
                  [0, 1, 1, 0],
                  [0, 1, 1, 0],
                  [0, 0, 0, 0]]]], dtype=torch.int32)
    """
    height, width = _block(images, side)
    top, left = ((side - part) // 2 for side, part in zip(images.shape[2:], (height, width), strict=True))
    mask = torch.zeros(len(images), 1, *images.shape[2:], dtype=torch.bool, device=images.device)
    mask[:, :, top : top + height, left : left + width] = True
    return mask


def mask_blocks(images: Tensor, *, count: int = 4, side: float = 0.25, generator: Generator) -> Tensor:
    """Mask blocks at random positions of each image; blocks may overlap.

    Args:
        images: ``b c h w``, at least 2x2 pixels.
        count: Number of blocks per image.
        side: Height and width of a block, as a fraction of the image.
        generator: Source of the draws.

    Returns:
        ``b 1 h w``, bool.

    Raises:
        OptionError: ``count`` is below 1, or ``side`` is not between 0 and 1.
        ShapeError: The images are not ``b c h w`` of at least 2x2 pixels.

    Example:
        >>> mask = mask_blocks(torch.zeros(2, 3, 32, 32), count=1, generator=torch.Generator().manual_seed(0))
        >>> mask.shape, mask.sum((1, 2, 3))
        (torch.Size([2, 1, 32, 32]), tensor([64, 64]))
    """
    count = check_int("count", count, fix="For example count=4.")
    block = _block(images, side)
    rows, columns = (torch.arange(side, device=images.device) for side in images.shape[2:])
    mask = torch.zeros(len(images), 1, *images.shape[2:], dtype=torch.bool, device=images.device)
    for _ in range(count):
        top, left = (
            randint(images, side - part + 1, generator)[:, None]
            for side, part in zip(images.shape[2:], block, strict=True)
        )
        inside_rows = (rows >= top) & (rows < top + block[0])
        inside_columns = (columns >= left) & (columns < left + block[1])
        mask |= (inside_rows[:, :, None] & inside_columns[:, None, :])[:, None]
    return mask


def mask_patches(images: Tensor, *, fraction: float = 0.5, patch: int = 4, generator: Generator) -> Tensor:
    """Mask random patches of a grid, the same number in each image.

    Args:
        images: ``b c h w``, at least two patches; patches at the right and lower edge may be cropped.
        fraction: Fraction of the patches to mask.
        patch: Side of a patch in pixels; 1 masks single pixels.
        generator: Source of the draws.

    Returns:
        ``b 1 h w``, bool.

    Raises:
        OptionError: ``fraction`` is not between 0 and 1, or ``patch`` is below 1.
        ShapeError: The images are not ``b c h w``, or not larger than one patch.

    Example:
        >>> mask = mask_patches(torch.zeros(2, 3, 32, 32), generator=torch.Generator().manual_seed(0))
        >>> mask.shape, mask.sum((1, 2, 3))
        (torch.Size([2, 1, 32, 32]), tensor([512, 512]))
    """
    check_view_images(images)
    fraction = check_float("fraction", fraction, "(0, 1)", fix="For example fraction=0.5.")
    patch = check_int("patch", patch, fix="For example patch=4.")
    height, width = images.shape[2:]
    rows, columns = -(-height // patch), -(-width // patch)
    patches = rows * columns
    if patches < 2:
        raise ShapeError(
            f"images larger than one patch of {patch} pixels",
            got=f"{height}x{width}",
            fix="Choose smaller patches, or enlarge the images.",
        )
    draws = torch.rand(len(images), patches, generator=generator, device=generator.device).to(images.device)
    masked = draws.argsort(1).argsort(1) < min(max(round(fraction * patches), 1), patches - 1)
    mask = repeat(masked, "b (r k) -> b 1 (r p) (k q)", r=rows, p=patch, q=patch)
    return mask[..., :height, :width].contiguous()


def hide_pixels(images: Tensor, mask: Tensor) -> Tensor:
    """Replace the masked pixels of each image by the mean color of its visible pixels.

    The result does not depend on the hidden pixels, and keeps the mean of the visible ones.

    Args:
        images: ``b c h w``.
        mask: ``b 1 h w``, bool, True for hidden pixels.

    Returns:
        ``b c h w``.

    Raises:
        ShapeError: The images are not ``b c h w``, or ``mask`` is not a bool tensor ``b 1 h w``.

    Example:
        >>> hide_pixels(torch.tensor([[[[0.2, 0.4, 0.9]]]]), torch.tensor([[[[False, False, True]]]]))
        tensor([[[[0.2000, 0.4000, 0.3000]]]])
    """
    check_float_images(images)
    wanted = (len(images), 1, *images.shape[2:])
    if mask.dtype != torch.bool or mask.shape != wanted:
        raise ShapeError(
            f"a bool mask b 1 h w of shape {wanted}",
            got=f"{str(mask.dtype).removeprefix('torch.')} of shape {tuple(mask.shape)}",
            fix="Make masks with pretextkit.views.mask_patches, mask_blocks or mask_center.",
        )
    visible_sum = images.masked_fill(mask, 0).sum((2, 3), keepdim=True, dtype=torch.float32)
    mean = visible_sum / (~mask).sum((2, 3), keepdim=True).clamp(min=1)
    return torch.where(mask, mean.to(images.dtype), images)


def _block(images: Tensor, side: float) -> tuple[int, int]:
    """Compute the height and width of a block in pixels: at least 1, and smaller than the image."""
    check_view_images(images)
    side = check_float("side", side, "(0, 1)", fix="It is a fraction of the image, for example side=0.5.")
    height, width = images.shape[2:]
    if min(height, width) < 2:
        raise ShapeError("images of at least 2x2 pixels", got=f"{height}x{width}", fix="Enlarge the images.")
    return min(max(round(side * height), 1), height - 1), min(max(round(side * width), 1), width - 1)
