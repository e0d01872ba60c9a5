"""Augmentation of images before a task makes its views."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from torch import Generator, Tensor

from pretextkit._color import as_float
from pretextkit._validation import check_callable, check_float, check_image_batch, described
from pretextkit.errors import OptionError, ShapeError
from pretextkit.views._color import color_jitter
from pretextkit.views._crop import check_ends, random_horizontal_flip, random_resized_crop

__all__ = ["Augmentation", "LightAugmentation", "augmented", "check_augmentation"]


class Augmentation(Protocol):
    """A function from images ``b c h w`` and a generator to as many augmented images."""

    def __call__(self, images: Tensor, generator: Generator, /) -> Tensor: ...


class LightAugmentation(NamedTuple):
    """Crop images and jitter their colors at random, with a draw for each image.

    Few images are soon memorized, unless every epoch shows them in another way. Crops and colors of this strength leave
    objects recognizable and upright.

    Args:
        crop_scale: Smallest and largest area of a crop, as fractions of the image; (1, 1) leaves crops out.
        jitter: Strength of the color jitter, relative to that of SimCLR on ImageNet; 0 leaves colors alone. Images of
            another number of channels than 3 change in brightness and contrast only.
        flip: Probability of a horizontal flip. Raise it to 0.5 for photographs whose left and right mean the same, and
            keep it at 0 for digits, letters, and everything else that a mirror changes.

    Example:
        >>> import torch
        >>> augment = LightAugmentation(flip=0.5)
        >>> augment(torch.rand(4, 3, 32, 32), Generator().manual_seed(0)).shape
        torch.Size([4, 3, 32, 32])
    """

    crop_scale: tuple[float, float] = (0.5, 1.0)
    jitter: float = 0.5
    flip: float = 0.0

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        """Augment images ``b c h w``, float in [0, 1].

        Raises:
            OptionError: A number is out of range.
            ShapeError: The images are not ``b c h w``.
            DataError: The images are not of a floating-point dtype.
        """
        jitter = check_float("jitter", self.jitter, "[0, 2.5]", fix="0 leaves colors alone.")
        flip = check_float("flip", self.flip, "[0, 1]", fix="0 is never, 1 is always.")
        crop_scale = check_ends("crop_scale", self.crop_scale, "(0, 1]", fix="For example (0.5, 1.0).")
        if crop_scale != (1.0, 1.0):
            images = random_resized_crop(images, scale=crop_scale, generator=generator)
        if jitter:
            strength, hue = 0.8 * jitter, 0.2 * jitter
            images = color_jitter(
                images, brightness=strength, contrast=strength, saturation=strength, hue=hue, generator=generator
            )
        return random_horizontal_flip(images, flip, generator=generator) if flip else images


def check_augmentation(augmentation: Any) -> Augmentation | None:
    """Check that the augmentation of a task is a function of images and a generator, or None.

    Raises:
        OptionError: It is something else.

    Example:
        >>> check_augmentation(LightAugmentation())
        LightAugmentation(crop_scale=(0.5, 1.0), jitter=0.5, flip=0.0)
    """
    if augmentation is None:
        return None
    if isinstance(augmentation, type) or not callable(augmentation):
        named = f"the class {augmentation.__name__}" if isinstance(augmentation, type) else repr(augmentation)
        fix = "Pass pretextkit.views.LightAugmentation() or another function; None leaves augmentation out."
        raise OptionError("augmentation to be a function of (images, generator), or None", got=named, fix=fix)
    check_callable("augmentation", augmentation, "images", "generator")
    function: Augmentation = augmentation
    return function


def augmented(augment: Augmentation | None, images: Tensor, generator: Generator) -> Tensor:
    """Augment images, if there is an augmentation, and check that as many images ``b c h w`` come back.

    Raises:
        ShapeError: ``augment`` returned something other than a tensor ``b c h w`` of as many images.
        DataError: The images are neither uint8 nor floating-point.

    Example:
        >>> import torch
        >>> augmented(lambda images, generator: images.flip(3), torch.rand(2, 3, 4, 4), Generator()).shape
        torch.Size([2, 3, 4, 4])
    """
    if augment is None:
        return images
    output: Any = augment(images, generator)
    if not isinstance(output, Tensor) or output.ndim != 4 or len(output) != len(images):
        fix = "Return one augmented image for each image, as one tensor."
        if isinstance(output, tuple) and output and isinstance(output[0], Tensor) and len(output[0]) == len(images):
            fix = "A transform of torchvision takes the images alone: lambda images, generator: augment(images)."
        raise ShapeError(
            f"{len(images)} images b c h w from augment",
            got=described(output),
            fix=fix,
            see="a-transform-of-torchvision-as-augment",
        )
    check_image_batch(output)
    return as_float(output)
