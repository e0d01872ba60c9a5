"""Conversion of images to tensors ``c h w``, and resizing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from pretextkit._validation import tensor_from_array
from pretextkit._validation._advice import item_fix
from pretextkit.errors import DataError, ShapeError

if TYPE_CHECKING:
    from PIL.Image import Image as PilImage

__all__ = ["channels_second", "image_tensor", "pil_tensor", "resize_and_crop"]

LONGEST = 16
"""Largest ratio of sides before scaling: a longer side is cropped first, because the center crop removes it anyway."""


def image_tensor(image: Any) -> Tensor:
    """Convert a tensor ``c h w``, an array ``h w c`` or ``h w``, or a PIL image to a tensor ``c h w``.

    Raises:
        ShapeError: A tensor or array has another shape.
        DataError: ``image`` has another type.

    Example:
        >>> import numpy as np
        >>> image_tensor(np.zeros((4, 6, 3), np.uint8)).shape
        torch.Size([3, 4, 6])
    """
    import numpy
    from PIL.Image import Image

    if isinstance(image, Image):
        return pil_tensor(image)
    if isinstance(image, numpy.ndarray):
        tensor = tensor_from_array(image)
        tensor = tensor[None] if tensor.ndim == 2 else tensor.movedim(-1, 0)
    elif isinstance(image, Tensor):
        tensor = image
    else:
        raise DataError(
            "an image as a tensor c h w, an array h w c or h w, or a PIL image",
            got=type(image).__name__,
            fix="Let the dataset return an image, or a tuple (image, label).",
        )
    if tensor.ndim != 3 or tensor.shape[0] not in (1, 3):
        raise ShapeError(
            "an image c h w (tensor), h w c or h w (array) with 1 or 3 channels",
            got=f"shape {tuple(image.shape)}",
            fix=item_fix(image),
        )
    return tensor


def pil_tensor(image: PilImage) -> Tensor:
    """Convert a PIL image to uint8: ``1 h w`` where it is gray, else ``3 h w``.

    16-bit images are scaled to 8 bit (``Image.convert`` would clip them), and transparent pixels are blended with
    white. Files are decoded as in torchvision's own datasets, by Pillow and torchvision's ``pil_to_tensor``, because
    ``torchvision.io`` supports fewer formats and its decoders are deprecated since torchvision 0.29.

    Example:
        >>> from PIL import Image
        >>> pil_tensor(Image.new("I;16", (2, 2), 65535)).flatten()
        tensor([255, 255, 255, 255], dtype=torch.uint8)
    """
    import numpy
    from PIL import Image
    from torchvision.transforms.functional import pil_to_tensor

    if image.mode.startswith("I"):  # 16 bit, which PIL opens as I;16 or, in some files, as I
        values: Tensor = torch.from_numpy(numpy.array(image, dtype=numpy.int64))[None]
        low, high = int(values.min()), int(values.max())
        if low < 0 or high > 65535:
            raise DataError("an image of 8 or 16 bit", got=f"values from {low} to {high}", fix="Convert it to 8 bit.")
        return ((values * 255 + 32767) // 65535).to(torch.uint8)
    if image.mode == "F":
        raise DataError(
            "an image of 8 or 16 bit", got="a floating-point image", fix="Convert it to a tensor in [0, 1]."
        )
    if image.mode in ("1", "L") and "transparency" not in image.info:
        gray: Tensor = pil_to_tensor(image.convert("L"))
        return gray
    if "A" in image.mode or "a" in image.mode or "transparency" in image.info:
        rgba = image.convert("RGBA")
        page = Image.new("RGBA", rgba.size, "white")
        image = Image.alpha_composite(page, rgba)
    colors: Tensor = pil_to_tensor(image if image.mode == "RGB" else image.convert("RGB"))  # convert would copy RGB
    return colors


def channels_second(images: Tensor) -> Tensor:
    """View ``n h w c``, ``n h w`` or ``n c h w`` as ``n c h w``; other shapes are returned unchanged.

    Raises:
        ShapeError: The shape may be ``h w c``, one image, which would be read as ``h`` gray images.

    Example:
        >>> channels_second(torch.zeros(2, 8, 9, 3)).shape, channels_second(torch.zeros(2, 8, 9)).shape
        (torch.Size([2, 3, 8, 9]), torch.Size([2, 1, 8, 9]))
    """
    if images.ndim == 3:
        if images.shape[2] in (1, 3):
            raise ShapeError(
                "images n h w c, n h w or n c h w",
                got=f"shape {tuple(images.shape)}, which may be one image h w c",
                fix="Pass array[None] for one image, or array[..., None] for gray images n h w.",
            )
        return images[:, None]
    return images.permute(0, 3, 1, 2) if images.ndim == 4 and images.shape[3] in (1, 3) else images


def resize_and_crop(images: Tensor, size: int) -> Tensor:
    """Scale the shorter side of uint8 ``b c h w`` to ``size`` with antialiasing, and crop the center ``b c size size``.

    Example:
        >>> resize_and_crop(torch.zeros(2, 3, 40, 60, dtype=torch.uint8), 32).shape
        torch.Size([2, 3, 32, 32])
    """
    short = min(images.shape[-2:])
    if max(images.shape[-2:]) > LONGEST * short:  # scaling a line of a million pixels would fill the memory
        images = _middle(images, *(min(side, LONGEST * short) for side in images.shape[-2:]))
    if short != size:
        target = [max(size, round(side * size / short)) for side in images.shape[-2:]]
        if target[1] == 1:  # torch 2.15 scales uint8 to a width of 1 wrongly, or fails an internal assertion
            images = interpolate(images.float(), target, mode="bilinear", antialias=True).round().byte()
        else:
            images = interpolate(images, target, mode="bilinear", antialias=True)
    return _middle(images, size, size)


def _middle(images: Tensor, height: int, width: int) -> Tensor:
    top, left = (images.shape[-2] - height) // 2, (images.shape[-1] - width) // 2
    return images[..., top : top + height, left : left + width]
