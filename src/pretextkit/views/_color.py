"""Random color transforms, drawn for each image and computed for the full batch at once."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from pretextkit._color import luma
from pretextkit._validation import check_float, check_float_images, check_view_images
from pretextkit._validation._image_advice import channels_fix
from pretextkit.errors import ShapeError
from pretextkit.views._random import bernoulli, select, uniform

__all__ = ["color_jitter", "random_grayscale", "to_grayscale"]

MAX_STRENGTH = 100
"""Larger strengths overflow half precision."""

# I and Q of YIQ span the colors of luma 0; a rotation in that plane changes the hue and keeps the luma.
_YIQ_FROM_RGB = ((0.299, 0.587, 0.114), (0.595716, -0.274453, -0.321263), (0.211456, -0.522591, 0.311135))


def color_jitter(
    images: Tensor,
    *,
    brightness: float = 0.4,
    contrast: float = 0.4,
    saturation: float = 0.4,
    hue: float = 0.1,
    p: float = 0.8,
    generator: Generator,
) -> Tensor:
    """Change brightness, contrast, saturation and hue of each image at random.

    All four changes are affine in the pixels, so the jitter of an image is one 3x3 matrix and an offset. It follows
    Chen et al. 2020 (arXiv 2002.05709, appendix A), with these deviations from torchvision: the order is fixed
    (saturation, hue, contrast, brightness), hue rotates in YIQ instead of HSV, and values are clamped once, at the end.

    Args:
        images: ``b c h w`` in [0, 1]. Saturation and hue apply to images of 3 channels, brightness and contrast to any.
        brightness: Brightness factors are drawn from [1 - brightness, 1 + brightness], limited to >= 0.
        contrast: Contrast factors are drawn from [1 - contrast, 1 + contrast], limited to >= 0, and scale the
            difference to the mean luma of the image; without colors, to the mean of all channels.
        saturation: Saturation factors are drawn from [1 - saturation, 1 + saturation], limited to >= 0, and scale the
            difference to the luma of the pixel.
        hue: Hue rotations are drawn from [-hue, hue], in full turns.
        p: Probability that an image is changed.
        generator: Source of the draws.

    Returns:
        ``b c h w`` in [0, 1].

    Raises:
        OptionError: A strength is negative or above 100, ``hue`` above 0.5, or ``p`` not in [0, 1].
        ShapeError: The images are not ``b c h w``.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> color_jitter(torch.rand(4, 3, 32, 32), generator=generator).shape
        torch.Size([4, 3, 32, 32])
    """
    within, fix = f"[0, {MAX_STRENGTH}]", "0 leaves that property unchanged."
    brightness = check_float("brightness", brightness, within, fix=fix)
    contrast = check_float("contrast", contrast, within, fix=fix)
    saturation = check_float("saturation", saturation, within, fix=fix)
    hue = check_float("hue", hue, "[0, 0.5]", fix=fix)
    check_float_images(images)

    def factor(strength: float) -> Tensor:
        return uniform(images, max(0.0, 1 - strength), 1 + strength, generator).to(images.dtype)[:, None, None, None]

    bright, contrasted, saturated = factor(brightness), factor(contrast), factor(saturation)
    angle = uniform(images, -hue, hue, generator).to(images.dtype) * (2 * math.pi)
    changed = bernoulli(images, p, generator)
    means = images.mean((2, 3), keepdim=True)
    mean_luma = (luma(means) if images.shape[1] == 3 else means.mean(1, keepdim=True))[..., 0]
    if images.shape[1] != 3:
        jittered = torch.lerp(mean_luma[..., None], images, contrasted)
        return select(changed, jittered.mul_(bright).clamp_(0, 1), images)
    matrix = contrasted[..., 0] * _hue_and_saturation(angle, saturated[:, :, 0, 0])
    # Passes over the pixels dominate the time. Brightness stays out of the matrix, which could overflow half precision.
    jittered = torch.baddbmm((1 - contrasted[..., 0]) * mean_luma, matrix, images.flatten(2)).view_as(images)
    return select(changed, jittered.mul_(bright).clamp_(0, 1), images)


def _hue_and_saturation(angle: Tensor, saturation: Tensor) -> Tensor:
    """Make matrices ``b 3 3`` that rotate hue by ``angle`` (``b``) and scale chroma by ``saturation`` (``b 1``)."""
    yiq = torch.tensor(_YIQ_FROM_RGB, dtype=torch.float64)
    inverse: Tensor = torch.linalg.inv(yiq)  # in float64, because half precision has no inverse
    chroma = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], 1) * saturation
    rotation = torch.zeros(len(angle), 3, 3, dtype=angle.dtype, device=angle.device)
    rotation[:, 0, 0] = 1
    rotation[:, 1:, 1:] = chroma.view(-1, 2, 2)
    return inverse.to(angle) @ rotation @ yiq.to(angle)


def to_grayscale(images: Tensor) -> Tensor:
    """Convert images ``b c h w`` to luma ``b 1 h w``.

    Raises:
        ShapeError: The images are not ``b c h w`` with 1 or 3 channels.

    Example:
        >>> to_grayscale(torch.ones(1, 3, 1, 1)).item()
        1.0
    """
    check_view_images(images)
    if images.shape[1] == 1:
        return images
    if images.shape[1] != 3:
        raise ShapeError("images of 1 or 3 channels", got=images.shape[1], fix=channels_fix(images.shape[1]))
    check_float_images(images)
    return luma(images)


def random_grayscale(images: Tensor, p: float = 0.2, *, generator: Generator) -> Tensor:
    """Convert each image to grayscale with probability ``p``, keeping the number of channels.

    Images of another number of channels than 3 have no gray version, and stay as they are.

    Args:
        images: ``b c h w``.
        p: Probability of grayscale.
        generator: Source of the draws.

    Returns:
        ``b c h w``.

    Raises:
        OptionError: ``p`` is not in [0, 1].
        ShapeError: The images are not ``b c h w``.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> gray = random_grayscale(torch.rand(1, 3, 2, 2), p=1.0, generator=generator)
        >>> bool((gray[:, 0] == gray[:, 2]).all())
        True
    """
    gray = bernoulli(images, p, generator)
    return select(gray, to_grayscale(images), images) if images.shape[1] == 3 else images
