"""Strong augmentation, for images whose labels a network gives itself."""

from __future__ import annotations

from typing import NamedTuple

import torch  # noqa: F401 - in the example
from torch import Generator, Tensor

from pretextkit._validation import check_float
from pretextkit.views._color import color_jitter, random_grayscale
from pretextkit.views._crop import check_ends, random_horizontal_flip, random_resized_crop
from pretextkit.views._mask import hide_pixels, mask_blocks

__all__ = ["StrongAugmentation"]


class StrongAugmentation(NamedTuple):
    """Crop, recolor and hide a part of each image at random, with a draw for each image.

    It stands for RandAugment and Cutout in FixMatch (Sohn et al. 2020, arXiv 2001.07685), without rotations and flips,
    which change digits and letters.

    Args:
        crop_scale: Smallest and largest area of a crop, as fractions of the image.
        jitter: Strength of the color jitter, relative to that of SimCLR on ImageNet.
        grayscale: Probability of conversion to grayscale.
        hidden: Side of the hidden square, as a fraction of the image; 0 hides nothing.
        flip: Probability of a horizontal flip. Raise it to 0.5 for photographs whose left and right mean the same.

    Example:
        >>> augment = StrongAugmentation(flip=0.5)
        >>> augment(torch.rand(4, 3, 32, 32), Generator().manual_seed(0)).shape
        torch.Size([4, 3, 32, 32])
    """

    crop_scale: tuple[float, float] = (0.4, 1.0)
    jitter: float = 0.75
    grayscale: float = 0.2
    hidden: float = 0.4
    flip: float = 0.0

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        """Augment images ``b c h w``, float in [0, 1].

        Raises:
            OptionError: A number is out of range.
            ShapeError: The images are not ``b c h w`` with 1 or 3 channels.
            DataError: The images are not of a floating-point dtype.
        """
        scale = check_ends("crop_scale", self.crop_scale, "(0, 1]", fix="For example (0.4, 1.0).")
        strength = 0.8 * check_float("jitter", self.jitter, "[0, 2.5]", fix="0 leaves colors alone.")
        hidden = check_float("hidden", self.hidden, "[0, 1)", fix="0 hides nothing.")
        flip = check_float("flip", self.flip, "[0, 1]", fix="0 is never, 1 is always.")
        view = random_resized_crop(images, scale=scale, generator=generator)
        view = color_jitter(
            view,
            brightness=strength,
            contrast=strength,
            saturation=strength,
            hue=strength / 4,
            generator=generator,
        )
        view = random_grayscale(view, self.grayscale, generator=generator)
        view = random_horizontal_flip(view, flip, generator=generator)
        return hide_pixels(view, mask_blocks(view, count=1, side=hidden, generator=generator)) if hidden else view
