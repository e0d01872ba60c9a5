"""Reading of image files: by Pillow or by a function of the user, with a range of values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from pretextkit._validation import check_images
from pretextkit.data._decoding import MAX_PIXELS, OR_SKIP, decode, decode_resized, opened, stored_shape
from pretextkit.data._image_conversion import brightest_pixel, image_tensor, pil_tensor, stored_tensor
from pretextkit.data._resizing import Fit, resize
from pretextkit.data._types import Size
from pretextkit.data._value_range import ValueRange
from pretextkit.errors import DataError, ShapeError, reason

if TYPE_CHECKING:
    from PIL.Image import Image as PilImage

__all__ = ["FileReader", "Opener"]

Opener = Callable[[Path], Any]
"""Function from the path of a file to an array ``h w`` or ``h w c``, a tensor ``c h w`` or a PIL image."""


@dataclass(frozen=True)
class FileReader:
    """How image files become tensors.

    Args:
        max_pixels: Largest number of pixels that Pillow decodes.
        open: Function that reads a file; None reads it by Pillow.
        values: Black and white; None for bytes, and for floats in [0, 1].
    """

    max_pixels: int = MAX_PIXELS
    open: Opener | None = None
    values: ValueRange | None = None

    @property
    def reads_bytes(self) -> bool:
        """Whether every image is ``3 h w``, uint8."""
        return self.open is None and self.values is None

    def full(self, path: Path, *, fix: str = OR_SKIP) -> Tensor:
        """Read a file in full, upright: ``c h w``, uint8 or float32.

        Raises:
            DataError: The file cannot be read, or holds something else.
        """
        if self.open is None:
            return decode(path, self.max_pixels, fix=fix, convert=self._converted)
        try:
            image = self.open(path)
        except Exception as error:  # a function of the user raises any type of error for a damaged file
            raise DataError(f"an image from open({str(path)!r})", got=reason(error), fix=fix) from error
        try:
            tensor = image_tensor(image) if self.values is None else self.values.to_unit(stored_tensor(image))
            check_images(tensor[None])
        except (DataError, ShapeError) as error:
            raise type(error)(f"{error.expected}, from open({str(path)!r})", got=error.got, fix=error.fix) from error
        return tensor if not tensor.is_floating_point() else tensor.float()

    def resized(self, path: Path, size: Size, fit: Fit) -> tuple[Tensor, tuple[int, int]]:
        """Read a file and resize it: ``c height width``; and the height and width of the full upright image."""
        if self.open is None:
            return decode_resized(path, self.max_pixels, size, fit, convert=self._converted)
        image = self.full(path)
        return resize(image[None], size, fit)[0], (image.shape[1], image.shape[2])

    def shape(self, path: Path) -> tuple[int, int]:
        """Read height and width, by Pillow in the header."""
        if self.open is None:
            return stored_shape(path, self.max_pixels)
        image = self.full(path)
        return image.shape[1], image.shape[2]

    def brightness(self, path: Path) -> tuple[float, float, float]:
        """Give the highest value of a file, the white of its kind, and the fraction of values beyond the range."""
        if self.open is not None:
            pixels = self.full(path)  # in [0, 1] with a range
            return float(pixels.max()), 1.0 if pixels.is_floating_point() else 255.0, 0.0
        with opened(path, self.max_pixels) as image:
            if self.values is None:
                value, white = brightest_pixel(image)
                return float(value), float(white), 0.0
            stored = stored_tensor(image)
        return float(stored.max()), self.values.white, self.values.beyond(stored) / stored.numel()

    def _converted(self, image: PilImage) -> Tensor:
        return pil_tensor(image) if self.values is None else self.values.to_unit(stored_tensor(image))
