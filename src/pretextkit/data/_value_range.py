"""The values of black and white of stored images, where they are not those of the dtype."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pretextkit._validation import check_float, check_image_tensor
from pretextkit._validation._image_advice import shape_fix
from pretextkit.data._brightness import DARK
from pretextkit.errors import DataError, DataWarning, OptionError, ShapeError, warn

__all__ = ["ValueRange", "check_stored_images", "value_range"]

CLIPPED = 0.01
"""Fraction of the values beyond black and white from which a warning is given; clouds and hot pixels are fewer."""

CHUNK = 1 << 24
"""Values looked at together."""

FULL = (255, 1023, 4095, 16383, 65535)
"""Highest values of 8, 10, 12, 14 and 16 bits."""


@dataclass(frozen=True)
class ValueRange:
    """Values of black and white: pixels become floats, 0 for black and 1 for white; values beyond are clipped."""

    black: float
    white: float

    def to_unit(self, images: Tensor) -> Tensor:
        """Convert numbers of any dtype to float32 in [0, 1]; NaN stays NaN.

        Example:
            >>> ValueRange(0, 4095).to_unit(torch.tensor([0, 4095, 5000], dtype=torch.uint16))
            tensor([0., 1., 1.])
        """
        if images.is_complex() or images.dtype == torch.bool:
            fix = "Leave black and white out: bools are 0 and 1." if images.dtype == torch.bool else "Pass magnitudes."
            raise DataError("images of integers or real numbers beside white", got=str(images.dtype), fix=fix)
        exact = torch.float32 if images.dtype.itemsize <= 2 or images.dtype == torch.float32 else torch.float64
        values = (images.to(exact) - self.black) / (self.white - self.black)
        return values.clamp(0, 1).float()

    def beyond(self, images: Tensor) -> int:
        """Count the values below black or above white."""
        values = images.to(torch.float64)
        return int(((values < self.black) | (values > self.white)).sum())


def value_range(white: float | None, black: float) -> ValueRange | None:
    """Check the options ``white`` and ``black``; None if both are left out.

    Raises:
        OptionError: One of them is no number, ``white`` is not above ``black``, or ``black`` is given alone.

    Example:
        >>> value_range(4095, 0), value_range(None, 0)
        (ValueRange(black=0.0, white=4095.0), None)
    """
    fix = "For example white=4095 for 12 bits, or black=-1000, white=3000."
    low = check_float("black", black, "(-inf, inf)", fix=fix)
    if white is None:
        if low != 0:
            raise OptionError("white beside black", got=f"black={low:g} alone", fix=fix)
        return None
    high = check_float("white", white, "(-inf, inf)", fix=fix)
    if high <= low:
        raise OptionError(f"white above black={low:g}", got=f"white={high:g}", fix=fix)
    return ValueRange(low, high)


def check_stored_images(images: Tensor, values: ValueRange) -> None:
    """Check images ``n c h w`` of any dtype, and warn if black and white do not suit them.

    Raises:
        ShapeError: The rank is wrong, or there are no pixels.
        DataError: The dtype is none of real numbers, or pixels are NaN or infinite.

    Warns:
        DataWarning: Many values lie beyond black and white, or all are dark.
    """
    check_image_tensor(images)
    if images.ndim != 4:
        raise ShapeError("images b c h w", got=f"shape {tuple(images.shape)}", fix=shape_fix(tuple(images.shape)))
    if images.numel() == 0:
        fix = "Check how the images were selected."
        raise DataError("at least one image with at least one pixel", got=f"shape {tuple(images.shape)}", fix=fix)
    beyond, brightest, highest, start = 0, 0.0, float("-inf"), 0
    for chunk in torch.split(images, max(1, CHUNK // images[0].numel())):
        unit = values.to_unit(chunk)
        stored = chunk.to(torch.float64)
        if not bool(stored.isfinite().all()):
            row = start + int((~stored.isfinite()).flatten(1).any(1).nonzero()[0])
            raise DataError("finite pixels", got=f"one that is not, first in image {row}", fix="Repair such images.")
        beyond += values.beyond(chunk)
        brightest, highest = max(brightest, float(unit.max())), max(highest, float(stored.max()))
        start += len(chunk)
    warn_of_range(values, beyond / images.numel(), brightest, highest, "the images")


def warn_of_range(values: ValueRange, beyond: float, brightest: float, highest: float, what: str) -> None:
    """Warn if black and white do not suit images.

    Args:
        values: Black and white.
        beyond: Fraction of the values beyond them.
        brightest: Highest pixel, in [0, 1].
        highest: Highest stored value.
        what: Name of the images in the message.
    """
    if beyond > CLIPPED:
        text = (
            f"{beyond:.0%} of the values of {what} lie beyond black={values.black:g} and white={values.white:g}, and "
            f"are clipped; the highest is {highest:g}. Choose black and white that enclose the values that matter."
        )
    elif 0 < brightest < DARK:
        fitting = next((white for white in FULL if highest <= white), highest)
        text = (
            f"The brightest pixel of {what} is {highest:g}, below a tenth of the range {values.black:g} to "
            f"{values.white:g}. If {fitting:g} is the highest value of the format, pass white={fitting:g}."
        )
    else:
        return
    warn(text, DataWarning, see="images-darker-or-brighter-than-expected")
