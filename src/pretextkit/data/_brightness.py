"""A warning for images that use a small part of their range of values."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pretextkit.errors import DataWarning, warn

if TYPE_CHECKING:
    from pretextkit.data._collate import ImageBatch

__all__ = ["DARK", "warn_of_dark_images", "watch_brightness"]

DARK = 0.1
"""Share of the range of values that the brightest pixel of a set must reach."""

CHUNK = 1 << 24
"""Pixels looked at together; a set of ordinary brightness needs one chunk."""


def warn_of_dark_images(images: Tensor, what: str = "the images") -> None:
    """Warn if the brightest pixel of all images is below a tenth of the range, but not black.

    The maximum is taken over the full set, therefore photos taken at night do not warn: one bright pixel is enough.

    Args:
        images: ``n c h w``, uint8, or float in [0, 1], not empty.
        what: Name of the images in the message.

    Example:
        >>> warn_of_dark_images(torch.tensor([0.0, 0.02, 0.3]).view(3, 1, 1, 1))
    """
    white = 1.0 if images.is_floating_point() else 255.0
    brightest = 0.0
    for chunk in torch.split(images, max(1, CHUNK // images[0].numel())):
        brightest = max(brightest, float(chunk.detach().max()))
        if brightest >= DARK * white:
            return
    _warn(brightest, white, what)


def watch_brightness(batches: Iterator[ImageBatch]) -> Iterator[ImageBatch]:
    """Pass batches on, and warn at the end if all were dark; only batches before the first bright one are looked at.

    Example:
        >>> from pretextkit.data import ImageBatch
        >>> len(list(watch_brightness(iter([ImageBatch(torch.ones(2, 1, 4, 4), None)]))))
        1
    """
    brightest, white = 0.0, 255.0
    for batch in batches:
        if brightest < DARK and batch.images.numel():
            white = 1.0 if batch.images.is_floating_point() else 255.0
            brightest = max(brightest, float(batch.images.detach().max()) / white)
        yield batch
    if brightest < DARK:
        _warn(brightest * white, white, "the images")


def _warn(brightest: float, white: float, what: str) -> None:
    if brightest <= 0:
        return
    if white == 1:
        cause = "Perhaps they were divided by 255 twice: divide once, or by the highest value of their format."
    else:
        cause = (
            "Perhaps floats in [0, 1] were cast to bytes, or deep images were divided by the range of their files: "
            "convert floats with (images * 255).round().to(torch.uint8), and divide deep images by the highest value "
            "of the camera or scanner (4095 for 12 bit)."
        )
    text = f"The brightest pixel of {what} is {brightest:.4g}, below a tenth of the range 0 to {white:.0f}. {cause}"
    warn(text, DataWarning, see="images-darker-or-brighter-than-expected")
