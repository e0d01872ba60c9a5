"""The random view of SimCLR, which the tasks of joint embedding share."""

from __future__ import annotations

from dataclasses import dataclass

import torch  # noqa: F401 - in the example
from torch import Generator, Tensor

from pretextkit._validation import check_float, check_image_batch
from pretextkit.views._color import color_jitter, random_grayscale
from pretextkit.views._crop import check_ends, random_horizontal_flip, random_resized_crop

__all__ = ["CropAndRecolor"]


@dataclass(frozen=True)
class CropAndRecolor:
    """Crop, flip and recolor each image at random: the view of SimCLR.

    The defaults suit images of 28 to 96 pixels: crops of at least 20 % of the area, color jitter of half the ImageNet
    strength, and no blur (Chen et al. 2020, arXiv 2002.05709, appendix B.9), but no flips. The same draw is never used
    for two images.

    Args:
        crop_scale: Smallest and largest area of a crop, as fractions of the image.
        flip: Probability of a horizontal flip. Raise it to 0.5 for photographs whose left and right mean the same; it
            spoils the features of digits, letters, and everything else that a mirror changes.
        jitter: Strength of the color jitter, relative to the paper's on ImageNet. Images of another number of channels
            than 3 change in brightness and contrast only.
        grayscale: Probability of conversion to grayscale; images of 3 channels only.
        side: Sides of the view, as a fraction of the sides of the image.

    Raises:
        OptionError: A number is out of range.

    Example:
        >>> view = CropAndRecolor(flip=0.5, side=0.5)
        >>> view(torch.rand(2, 3, 32, 32), torch.Generator().manual_seed(0)).shape
        torch.Size([2, 3, 16, 16])
    """

    crop_scale: tuple[float, float] = (0.2, 1.0)
    flip: float = 0.0
    jitter: float = 0.5
    grayscale: float = 0.2
    side: float = 1.0

    def __post_init__(self) -> None:
        checked = {
            "crop_scale": check_ends("crop_scale", self.crop_scale, "(0, 1]", fix="For example (0.2, 1.0)."),
            "flip": check_float("flip", self.flip, "[0, 1]", fix="0 is never, 1 is always."),
            "jitter": check_float("jitter", self.jitter, "[0, 2.5]", fix="0 leaves colors alone."),
            "grayscale": check_float("grayscale", self.grayscale, "[0, 1]", fix="0 is never, 1 is always."),
            "side": check_float("side", self.side, "(0, 1]", fix="1 keeps the size of the image."),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        """Map ``b c h w`` to one view ``b c h' w'`` of each image."""
        check_image_batch(images)
        height, width = (max(1, round(self.side * length)) for length in images.shape[2:])
        view = random_resized_crop(images, (height, width), scale=self.crop_scale, generator=generator)
        view = random_horizontal_flip(view, self.flip, generator=generator)
        strength = 0.8 * self.jitter
        view = color_jitter(
            view,
            brightness=strength,
            contrast=strength,
            saturation=strength,
            hue=0.2 * self.jitter,
            generator=generator,
        )
        return random_grayscale(view, self.grayscale, generator=generator)
