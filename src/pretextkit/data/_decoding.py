"""Image files to tensors; large JPEG files are scaled while they are decoded."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, cast

from torch import Tensor

from pretextkit.data._image_conversion import note_depth, orientation, pil_tensor, upright
from pretextkit.data._image_size import height_width
from pretextkit.data._resizing import Fit, longest_sides, resize
from pretextkit.data._types import Size
from pretextkit.errors import DataError, reason

if TYPE_CHECKING:
    from PIL.Image import Image as PilImage
    from PIL.ImageFile import ImageFile

__all__ = ["MAX_PIXELS", "OR_SKIP", "decode", "decode_resized", "opened", "stored_shape"]

Convert: TypeAlias = "Callable[[PilImage], Tensor]"
"""Function from a PIL image to a tensor ``c h w``."""

JPEG = ("JPEG", "MPO")
"""Formats that are decoded at a part of their size."""

MAX_PIXELS = 100_000_000

REDUCTIONS = (8, 4, 2)
"""Divisors of the sides with which JPEG files can be decoded: by an inverse cosine transform of fewer coefficients."""

MARGIN = 1.5
"""Size after such a decoding, as a multiple of the final size at least: the antialiased resizing does the rest.

Photos of 12 megapixels are then decoded at an eighth for 224 pixels, and not at a quarter.
"""

BLOCK = 2**24
"""Bytes that Pillow reads at once of a JPEG file: in blocks of 64 KB, it copies what is left of each."""

SHIFT = 0.05
"""Largest shift of the last pixels, in pixels of the result, where a side is no multiple of the divisor."""

OR_SKIP = (
    'Repair or remove it, or leave such files out with on_error="skip". '
    'To functions without this option, pass pretextkit.data.FolderImages(root, on_error="skip").'
)


def decode_resized(
    path: Path, max_pixels: int, size: Size, fit: Fit, *, convert: Convert = pil_tensor
) -> tuple[Tensor, tuple[int, int]]:
    """Decode a file and resize it.

    A JPEG file at least three times as large as needed is decoded at a half, a quarter or an eighth of its size, which
    remains at least one and a half times the final size. The resizing to ``size`` is the same.

    Args:
        path: An image file.
        max_pixels: Largest number of pixels that is decoded.
        size: Size of the result.
        fit: How the image gets another shape.
        convert: Conversion of the decoded image, at full or reduced size, to a tensor ``c h w``.

    Returns:
        ``c height width``; and the height and width of the full upright image.

    Raises:
        DataError: The file cannot be decoded.
    """
    with opened(path, max_pixels) as image:
        shape = (image.height, image.width)
        turns = orientation(image) if image.format in JPEG else 1  # others are not reduced
        height, width = height_width(size)
        reduced = _reduce(image, (width, height) if turns in (5, 6, 7, 8) else (height, width), fit)
        pixels = convert(upright(image))
    if not reduced:
        shape = (pixels.shape[1], pixels.shape[2])
    elif turns in (5, 6, 7, 8):
        shape = shape[::-1]
    return resize(pixels[None], size, fit, shape)[0], shape


def decode(path: Path, max_pixels: int, *, fix: str = OR_SKIP, convert: Convert = pil_tensor) -> Tensor:
    """Decode a file in full, upright: ``c h w``; errors end with ``fix``.

    Raises:
        DataError: The file cannot be decoded.
    """
    with opened(path, max_pixels, fix=fix) as image:
        return convert(upright(image))


def stored_shape(path: Path, max_pixels: int) -> tuple[int, int]:
    """Read height and width in the header, as stored: the orientation of a PNG file follows its pixels."""
    with opened(path, max_pixels) as image:
        return image.height, image.width


def _reduce(image: PilImage, size: tuple[int, int], fit: Fit) -> bool:
    """Let a JPEG file be decoded at a part of its size, if it remains large enough for ``size``, stored like it."""
    if image.format not in JPEG:
        return False
    cast("ImageFile", image).decodermaxblock = BLOCK
    sides, longest = (image.height, image.width), longest_sides(image.height, image.width, size)
    if sides[0] > longest[0] or sides[1] > longest[1]:
        return False
    row_governs = (size[0] * sides[1] >= size[1] * sides[0]) != (fit == "pad")  # it is scaled least, or most with pad
    governing, wanted = (sides[0], size[0]) if row_governs else (sides[1], size[1])
    for divisor in REDUCTIONS:
        excess = max(-side % divisor for side in image.size)  # decoding rounds the sides up
        if governing >= divisor * MARGIN * wanted and excess * wanted <= SHIFT * governing:
            return image.draft(None, (image.width // divisor, image.height // divisor)) is not None
    return False


@contextmanager
def opened(path: Path, max_pixels: int, *, fix: str = OR_SKIP) -> Iterator[PilImage]:
    """Open an image without decoding its pixels; errors name the file and end with ``fix``."""
    from PIL import Image, UnidentifiedImageError

    try:
        with path.open("rb") as file:  # opened by name, Pillow 13 decodes rotated TIFF files wrongly
            with warnings.catch_warnings():
                # max_pixels replaces the limit of Pillow, which warns at 89 million pixels.
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                image = Image.open(file)
            if image.width * image.height > max_pixels:
                raise DataError(f"{image.width} x {image.height} pixels, above max_pixels={max_pixels}")
            note_depth(image)
            yield image
    except Exception as error:  # decoders raise almost any type of error for a damaged file
        if isinstance(error, DataError) and error.got is not ...:  # the image is intact, but of another kind
            raise DataError(f"{error.expected} at {path}", got=error.got, fix=error.fix) from None
        got = reason(error)
        if isinstance(error, UnidentifiedImageError):
            got = "an empty file" if path.stat().st_size == 0 else "no kind of image that Pillow knows"
        raise DataError(
            f"an image file that can be decoded at {path}",
            got=got,
            fix=fix,
            see="a-file-that-cannot-be-decoded",
        ) from error
