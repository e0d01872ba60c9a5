"""Exact rotations by multiples of 90 degrees."""

from __future__ import annotations

import torch
from torch import Tensor

from pretextkit._validation import check_integer_tensor, check_view_images
from pretextkit.errors import ShapeError

__all__ = ["all_rotations", "rotate90"]


def rotate90(images: Tensor, turns: Tensor) -> Tensor:
    """Rotate each image counter-clockwise by its own number of quarter turns.

    Pixels are not interpolated, so neither a border nor blur reveals the angle.

    Args:
        images: ``b c h h``, square, because the shape of a rectangle would reveal the angle.
        turns: ``b``, int64, number of quarter turns, modulo 4.

    Returns:
        ``b c h h``.

    Raises:
        ShapeError: The images are not square, or there is not one turn for each image.
        DataError: The turns are not integers.

    Example:
        >>> rotate90(torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]), torch.tensor([1]))
        tensor([[[[2., 4.],
                  [1., 3.]]]])
    """
    _check_square(images)
    if turns.shape != images.shape[:1]:
        raise ShapeError("one turn for each image", got=f"{tuple(turns.shape)} turns", fix="Pass turns of shape (b,).")
    check_integer_tensor(turns, "turns")
    rotations = torch.stack([torch.rot90(images, k, (2, 3)) for k in range(4)])
    return rotations[turns.long().remainder(4), torch.arange(len(images), device=images.device)]


def all_rotations(images: Tensor) -> Tensor:
    """Concatenate the images rotated counter-clockwise by 0, 90, 180 and 270 degrees.

    Args:
        images: ``b c h h``.

    Returns:
        ``(4 b) c h h``: all images unrotated, then all images after one, two and three quarter turns.

    Raises:
        ShapeError: The images are not square.

    Example:
        >>> all_rotations(torch.rand(8, 3, 32, 32)).shape
        torch.Size([32, 3, 32, 32])
    """
    _check_square(images)
    return torch.cat([torch.rot90(images, k, (2, 3)) for k in range(4)])


def _check_square(images: Tensor) -> None:
    check_view_images(images)
    if images.shape[2] != images.shape[3]:
        raise ShapeError(
            "square images b c h h",
            got=f"shape {tuple(images.shape)}",
            fix="Crop them to squares: torchvision.transforms.functional.center_crop(images, min(images.shape[2:])).",
        )
