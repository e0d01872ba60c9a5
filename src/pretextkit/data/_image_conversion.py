"""Conversion of images to tensors ``c h w``, and resizing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from pretextkit._validation import tensor_from_array
from pretextkit._validation._advice import is_channels_first, is_channels_last, item_fix
from pretextkit.data._image_size import height_width
from pretextkit.data._types import Size
from pretextkit.errors import DataError, OptionError, ShapeError

if TYPE_CHECKING:
    from PIL.Image import Image as PilImage

__all__ = [
    "LONGEST",
    "Fit",
    "brightest_pixel",
    "channels_second",
    "check_fit",
    "covering_sides",
    "image_tensor",
    "longest_sides",
    "lost_area",
    "map_to_pixels",
    "note_depth",
    "padded_box",
    "pil_tensor",
    "resize",
    "resize_and_crop",
    "scale",
    "stored_tensor",
]

Fit: TypeAlias = Literal["crop", "pad", "stretch"]
"""How an image gets another shape: crop the center, repeat the border pixels, or scale each axis by itself."""

LONGEST = 16
"""Most areas of the result before the crop: longer sides are cropped first, because the center crop removes them."""

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

    Deep PIL images keep their values, others become bytes as in :func:`pil_tensor`.

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
    if image.mode == "F" or image.mode.startswith("I"):
        kind = numpy.float32 if image.mode == "F" else numpy.int32
        return torch.from_numpy(numpy.array(image, dtype=kind))[None]
    note_depth(image)
    if REDUCED in image.info:
        raise DataError("gray levels of 16 bits", got=f"{image.mode} of 16 bits, reduced to 8", fix=READ_YOURSELF)
    return pil_tensor(image)


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
