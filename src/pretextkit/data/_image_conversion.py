"""Conversion of images to tensors ``c h w``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pretextkit._validation import tensor_from_array
from pretextkit._validation._image_advice import is_channels_first, is_channels_last, item_fix
from pretextkit.errors import DataError, ShapeError

if TYPE_CHECKING:
    from PIL.Image import Image as PilImage

__all__ = [
    "brightest_pixel",
    "channels_second",
    "image_tensor",
    "note_depth",
    "orientation",
    "pil_tensor",
    "stored_tensor",
    "upright",
]

ORIENTATION = 0x0112
"""Exif tag of the camera orientation."""

MOST_BANDS = 32
"""Most channels for which an array of three axes, of which the first are a square, may be one image."""

STATE_RANGE = "State the values of black and white, one pair for all files: pretextkit.data.FolderImages({call})."
"""Advice for images whose values are no bytes."""

READ_YOURSELF = "Read them with another library: pretextkit.data.FolderImages(root, open=function, white=65535)."
"""Advice for images whose depth Pillow reduces."""

REDUCED = "colors of 16 bits"
"""Key in the ``info`` of PIL images whose colors had 16 bits."""


def image_tensor(image: Any) -> Tensor:
    """Convert a tensor ``c h w``, an array ``h w c`` or ``h w``, or a PIL image to a tensor ``c h w``.

    The orientation of the camera (Exif) of a PIL image is applied, as for files.

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
        return pil_tensor(upright(image))
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
    # An array h w c is a tensor c h w by now: compare with the other layout.
    shape = tuple(tensor.shape)
    swapped = len(shape) == 3 and (
        is_channels_last(shape) if isinstance(image, Tensor) else is_channels_first((*shape[1:], shape[0]))
    )
    if len(shape) != 3 or swapped:
        raise ShapeError(
            "an image c h w (tensor), h w c or h w (array)",
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
            black = min(low, 0)
            fix = STATE_RANGE.format(call=f"root, black={black}, white={max(high, black + 1)}")
            raise DataError("an image of 8 or 16 bit", got=f"values from {low} to {high}", fix=fix)
        return ((values * 255 + 32767) // 65535).to(torch.uint8)
    if image.mode == "F":
        fix = STATE_RANGE.format(call="root, black=0, white=1")
        raise DataError("an image of 8 or 16 bit", got="a floating-point image", fix=fix)
    if image.mode in ("1", "L") and "transparency" not in image.info:
        gray: Tensor = pil_to_tensor(image.convert("L"))
        return gray
    if "A" in image.mode or "a" in image.mode or "transparency" in image.info:
        rgba = image.convert("RGBA")
        page = Image.new("RGBA", rgba.size, "white")
        image = Image.alpha_composite(page, rgba)
    colors: Tensor = pil_to_tensor(image if image.mode == "RGB" else image.convert("RGB"))  # convert would copy RGB
    return colors


def stored_tensor(image: Any) -> Tensor:
    """Convert an image to a tensor ``c h w`` of the values as they are stored, for images with a stated range.

    Deep PIL images keep their values, others become bytes as in :func:`pil_tensor`. PIL images are turned upright.

    Raises:
        ShapeError: A tensor or array has another shape.
        DataError: ``image`` has another type, or Pillow has reduced its depth.

    Example:
        >>> from PIL import Image
        >>> stored_tensor(Image.new("I;16", (2, 2), 4095)).flatten()
        tensor([4095, 4095, 4095, 4095], dtype=torch.int32)
    """
    import numpy
    from PIL.Image import Image

    if not isinstance(image, Image):
        return image_tensor(image)
    note_depth(image)
    image = upright(image)
    if image.mode == "F" or image.mode.startswith("I"):
        kind = numpy.float32 if image.mode == "F" else numpy.int32
        return torch.from_numpy(numpy.array(image, dtype=kind))[None]
    if REDUCED in image.info:
        raise DataError("gray levels of 16 bits", got=f"{image.mode} of 16 bits, reduced to 8", fix=READ_YOURSELF)
    return pil_tensor(image)


def orientation(image: PilImage) -> int:
    """Give the Exif orientation of a PIL image, 1 if it is upright or if its Exif cannot be read.

    Example:
        >>> from PIL import Image
        >>> orientation(Image.new("L", (2, 2)))
        1
    """
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # damaged Exif raises almost any type of error, and the pixels are intact
        return 1


def upright(image: PilImage) -> PilImage:
    """Turn a PIL image as its Exif orientation says; Exif is removed from the result, which is not turned again.

    Example:
        >>> from PIL import Image
        >>> photo = Image.new("L", (3, 2))
        >>> photo.getexif()[ORIENTATION] = 6
        >>> upright(photo).size, upright(upright(photo)).size
        ((2, 3), (2, 3))
    """
    from PIL import ImageOps

    image.load()  # errors of the pixels are raised here, and not taken for those of the Exif
    return image if orientation(image) == 1 else ImageOps.exif_transpose(image)  # it would copy an upright image


def note_depth(image: PilImage) -> None:
    """Note in the ``info`` of an image that is not decoded yet whether Pillow will reduce its colors from 16 bits."""
    deep = any("16" in str(tile[3]) for tile in getattr(image, "tile", ()))
    if deep and image.mode != "F" and not image.mode.startswith("I"):
        image.info[REDUCED] = True


def brightest_pixel(image: PilImage) -> tuple[int, int]:
    """Give the highest value of a PIL image and the highest value of its kind: 255, or 65535 for deep images.

    Example:
        >>> from PIL import Image
        >>> brightest_pixel(Image.new("I;16", (2, 2), 4095))
        (4095, 65535)
    """
    import numpy

    if image.mode.startswith("I"):
        pil_tensor(image)  # refuses other values
        return int(numpy.array(image, dtype=numpy.int64).max()), 65535
    return int(pil_tensor(image).max()), 255


def channels_second(images: Tensor) -> Tensor:
    """View ``n h w c``, ``n h w`` or ``n c h w`` as ``n c h w``; other shapes are returned unchanged.

    Channels are 1, 3, at most 4, or beside a square; or they are at most a quarter of both sides.

    Raises:
        ShapeError: The shape may be ``h w c``, one image, which would be read as ``h`` gray images; or it may be
            ``n h w c`` as well as ``n c h w``.

    Example:
        >>> channels_second(torch.zeros(2, 8, 9, 3)).shape, channels_second(torch.zeros(2, 8, 9)).shape
        (torch.Size([2, 3, 8, 9]), torch.Size([2, 1, 8, 9]))
        >>> channels_second(torch.zeros(2, 8, 8, 13)).shape, channels_second(torch.zeros(2, 13, 8, 8)).shape
        (torch.Size([2, 13, 8, 8]), torch.Size([2, 13, 8, 8]))
    """
    if images.ndim == 3:
        height, width, channels = images.shape  # of one image
        if channels in (1, 3) or (height == width > channels and channels <= MOST_BANDS):
            raise ShapeError(
                "images n h w c, n h w or n c h w",
                got=f"shape {tuple(images.shape)}, which may be one image h w c",
                fix="Pass array[None] for one image, or array[..., None] for gray images n h w.",
            )
        return images[:, None]
    if images.ndim != 4:
        return images
    first, second, last = shape = tuple(images.shape[1:])
    if last in (1, 3):
        return images.permute(0, 3, 1, 2)
    if first in (1, 3):
        return images
    if is_channels_last(shape) or first == second != last or 4 * last <= min(first, second):
        return images.permute(0, 3, 1, 2)
    if is_channels_first(shape) or 4 * first <= min(second, last):
        return images
    raise ShapeError(
        "an array n h w c or n c h w that tells its channels",
        got=f"shape {tuple(images.shape)}",
        fix="Pass a tensor with channels second: torch.from_numpy(array).permute(0, 3, 1, 2) for n h w c.",
    )
