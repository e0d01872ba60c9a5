"""Checks of images."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pretextkit._validation._image_advice import (
    dtype_fix,
    is_channels_last,
    network_fix,
    range_fix,
    shape_fix,
    tensor_fix,
)
from pretextkit._validation._label_advice import masks_fix
from pretextkit.errors import DataError, ShapeError

__all__ = [
    "check_channels",
    "check_float_images",
    "check_image_batch",
    "check_image_tensor",
    "check_images",
    "check_masks",
    "check_view_images",
]

ROUNDING = 1e-4
"""Distance from [0, 1] that float images may have: the rounding of interpolation, and no more."""

CHUNK = 1 << 24
"""Pixels checked at a time, which bounds the memory that checking a memory-mapped tensor takes."""

FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
"""Floating-point dtypes of images; float8 has no arithmetic."""

SEE = "a-data-set-where-a-tensor-is-needed"
"""Section of the page on troubleshooting."""


def check_images(images: Tensor) -> None:
    """Check the shape, the dtype and the values of images.

    Args:
        images: ``b c h w`` with any number of channels, uint8, or floating-point in [0, 1].

    Raises:
        ShapeError: The rank is wrong, or the channels come last.
        DataError: There are no images, the dtype is wrong, or float pixels are NaN, infinite or outside [0, 1].

    Example:
        >>> check_images(torch.zeros(2, 3, 8, 8))
        >>> check_images(torch.tensor([0.0, 255.0]).view(2, 1, 1, 1))
        Traceback (most recent call last):
            ...
        pretextkit.errors.DataError: Expected float images in [0, 1], but got values from 0 to 255. Divide by ...
    """
    check_image_tensor(images)
    _check_channels(images)
    if images.numel() == 0:
        raise DataError(
            "at least one image with at least one pixel",
            got=f"shape {tuple(images.shape)}",
            fix="Check how the images were selected.",
        )
    _check_dtype(images)
    if images.is_floating_point():
        _check_range(images)


def check_image_batch(images: Tensor) -> None:
    """Check the shape and the dtype of the images of one forward pass; their values are not read.

    Args:
        images: ``b c h w`` with any number of channels, uint8, or floating-point in [0, 1]; ``b`` may be 0.

    Raises:
        ShapeError: The rank is wrong, the channels come last, or the images have no pixels.
        DataError: The dtype is neither uint8 nor a floating-point one.

    Example:
        >>> check_image_batch(torch.zeros(0, 3, 8, 8))
    """
    check_image_tensor(images)
    _check_channels(images)
    _check_pixels(images)
    _check_dtype(images)


def check_channels(images: Tensor, channels: int) -> None:
    """Check that a network of ``channels`` input channels takes images: of as many channels, or 1 for 3 and 3 for 1.

    Args:
        images: ``b c h w``.
        channels: Input channels of the network.

    Raises:
        ShapeError: The images have another number of channels.

    Example:
        >>> check_channels(torch.zeros(2, 1, 8, 8), 3)
        >>> check_channels(torch.zeros(2, 13, 8, 8), 3)
        Traceback (most recent call last):
            ...
        pretextkit.errors.ShapeError: Expected images of 3 channels (or 1), as the network takes, but got shape (2, ...
    """
    given = images.shape[1]
    if given == channels or {given, channels} == {1, 3}:
        return
    other = {1: " (or 3)", 3: " (or 1)"}.get(channels, "")
    raise ShapeError(
        f"images of {channels} channel{'' if channels == 1 else 's'}{other}, as the network takes",
        got=f"shape {tuple(images.shape)}",
        fix=network_fix(tuple(images.shape), channels),
    )


def check_view_images(images: Tensor) -> None:
    """Check the shape and the dtype of images that a view transforms.

    Args:
        images: ``b c h w`` with any number of channels, uint8 or float; ``b`` may be 0.

    Raises:
        ShapeError: The rank is wrong, or the images have no pixels.
        DataError: The dtype is neither uint8 nor a float one.

    Example:
        >>> check_view_images(torch.zeros(2, 4, 8, 8))
    """
    check_image_tensor(images)
    if images.ndim != 4:
        raise ShapeError("images b c h w", got=f"shape {tuple(images.shape)}", fix=shape_fix(tuple(images.shape)))
    _check_pixels(images)
    if images.dtype not in (torch.uint8, *FLOATS):
        raise DataError("images of dtype uint8 or float", got=str(images.dtype), fix=dtype_fix(images))


def check_float_images(images: Tensor) -> None:
    """Check that images are floats ``b c h w``; uint8 is refused, because results in [0, 1] would be rounded to 0 or 1.

    Args:
        images: ``b c h w`` with any number of channels, float; ``b`` may be 0.

    Raises:
        ShapeError: The rank is wrong, or the images have no pixels.
        DataError: The dtype is no float one.

    Example:
        >>> check_float_images(torch.zeros(2, 3, 8, 8))
    """
    check_view_images(images)
    if images.dtype not in FLOATS:
        raise DataError("float images in [0, 1]", got=str(images.dtype), fix="Convert with images.float() / 255.")


def check_masks(images: Tensor, masks: Tensor, what: str) -> None:
    """Check images and the masks that give each of their pixels a class.

    Args:
        images: ``n c h w``, checked by :func:`check_images`.
        masks: ``n h w``, integers.
        what: Name of the images in the message, for example "train".

    Raises:
        DataError: The masks are not integers.
        ShapeError: The masks do not match the images in number or size.

    Example:
        >>> check_masks(torch.rand(2, 3, 8, 9), torch.zeros(2, 8, 9, dtype=torch.uint8), "train")
    """
    check_images(images)
    if not isinstance(masks, Tensor) or masks.is_floating_point() or masks.is_complex():
        got = str(masks.dtype) if isinstance(masks, Tensor) else type(masks).__name__
        raise DataError(f"masks of integers for {what}", got=got, fix=masks_fix(masks, images))
    if masks.shape != (len(images), *images.shape[2:]):
        raise ShapeError(
            f"{what} masks n h w for images of {tuple(images.shape)}",
            got=f"shape {tuple(masks.shape)}",
            fix=masks_fix(masks, images),
        )


def check_image_tensor(images: Any) -> None:
    """Check that images are a tensor, where neither a dataset nor a path is taken.

    Raises:
        DataError: They are something else.

    Example:
        >>> check_image_tensor(torch.zeros(2, 3, 8, 8))
    """
    if not isinstance(images, Tensor):
        raise DataError("a tensor of images b c h w", got=type(images).__name__, fix=tensor_fix(images), see=SEE)


def _check_channels(images: Tensor) -> None:
    shape = tuple(images.shape)
    if images.ndim != 4 or is_channels_last(shape[1:]):
        raise ShapeError("images b c h w", got=f"shape {shape}", fix=shape_fix(shape))


def _check_pixels(images: Tensor) -> None:
    if 0 in images.shape[1:]:
        raise ShapeError(
            "images b c h w of at least one pixel",
            got=f"shape {tuple(images.shape)}",
            fix="Check how the images were cropped.",
        )


def _check_dtype(images: Tensor) -> None:
    if images.dtype != torch.uint8 and not images.is_floating_point():
        raise DataError(
            "images of dtype uint8 (0 to 255) or floating-point (0 to 1)",
            got=str(images.dtype),
            fix=dtype_fix(images),
        )


def _check_range(images: Tensor) -> None:
    step = max(1, CHUNK // images[0].numel())
    low, high = float("inf"), float("-inf")
    for start in range(0, len(images), step):
        chunk = images[start : start + step]
        # aminmax propagates NaN, therefore one pass finds NaN, infinity and the range.
        chunk_low, chunk_high = (float(value) for value in torch.aminmax(chunk.detach()))
        if not (abs(chunk_low) < float("inf") and abs(chunk_high) < float("inf")):
            bad = ~torch.isfinite(chunk).flatten(1).all(1)
            kind = "NaN" if bool(torch.isnan(chunk).any()) else "infinite"
            raise DataError(
                "finite pixels",
                got=f"{kind} pixels, first in image {start + int(bad.nonzero()[0])}",
                fix="Drop or repair such images.",
            )
        low, high = min(low, chunk_low), max(high, chunk_high)
    if low < -ROUNDING or high > 1 + ROUNDING:
        got = f"values from {low:.4g} to {high:.4g}"
        raise DataError(
            "float images in [0, 1]", got=got, fix=range_fix(low, high), see="values-outside-the-unit-interval"
        )
