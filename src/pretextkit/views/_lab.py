"""CIE Lab: a perceptually uniform color space that separates lightness from color."""

from __future__ import annotations

import torch
from torch import Tensor

from pretextkit._validation import check_float_images
from pretextkit._validation._image_advice import channels_fix
from pretextkit.errors import ShapeError

__all__ = ["lab_to_rgb", "rgb_to_lab", "same_lightness"]

Matrix = list[list[float]]

# Linear sRGB to XYZ (IEC 61966-2-1). Rows are divided by their sums, the D65 white point: gray then has no chroma.
_XYZ_FROM_RGB = torch.tensor(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]],
    dtype=torch.float64,
)
_TO_XYZ: Matrix = (_XYZ_FROM_RGB / _XYZ_FROM_RGB.sum(1, keepdim=True)).tolist()
_FROM_XYZ: Matrix = torch.linalg.inv(torch.tensor(_TO_XYZ, dtype=torch.float64)).tolist()
_KNEE = 6 / 29
"""Root below which the cube root is replaced by a linear function."""


def rgb_to_lab(images: Tensor) -> Tensor:
    """Convert sRGB images to CIE Lab with the D65 white point (CIE 15:2004).

    Args:
        images: ``b 3 h w`` in [0, 1].

    Returns:
        ``b 3 h w``: lightness L* in [0, 100], a* from green to red, and b* from blue to yellow. Both a* and b* are in
        [-110, 110], and 0 for gray.

    Raises:
        DataError: The images are not of a floating-point dtype.
        ShapeError: The images are not ``b 3 h w``.

    Example:
        >>> red, white = torch.tensor([1.0, 0.0, 0.0]), torch.ones(3)
        >>> rgb_to_lab(torch.stack([red, white])[:, :, None, None]).flatten(1).round().abs()
        tensor([[ 53.,  80.,  67.],
                [100.,   0.,   0.]])
    """
    _check_colors(images, "sRGB images b 3 h w")
    x, y, z = (_root(each) for each in _mixed(_TO_XYZ, _linear(_exact(images))))
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], 1).to(images.dtype)


def lab_to_rgb(lab: Tensor) -> Tensor:
    """Convert CIE Lab to sRGB; each channel is clamped to [0, 1].

    Args:
        lab: ``b 3 h w``: L*, a* and b*, as returned by :func:`rgb_to_lab`.

    Returns:
        ``b 3 h w`` in [0, 1].

    Raises:
        DataError: ``lab`` is not of a floating-point dtype.
        ShapeError: ``lab`` is not ``b 3 h w``.

    Example:
        >>> images = torch.rand(2, 3, 8, 8)
        >>> torch.allclose(lab_to_rgb(rgb_to_lab(images)), images, atol=1e-4)
        True
    """
    _check_colors(lab, "Lab images b 3 h w")
    lightness, a, b = _exact(lab).unbind(1)
    y = (lightness + 16) / 116
    xyz = torch.stack([_cube(y + a / 500), _cube(y), _cube(y - b / 200)], 1)
    return _encoded(torch.stack(_mixed(_FROM_XYZ, xyz), 1)).to(lab.dtype)


def same_lightness(images: Tensor) -> Tensor:
    """Convert sRGB images ``b 3 h w`` to gray images ``b 1 h w`` with the same L*.

    Raises:
        DataError: The images are not of a floating-point dtype.
        ShapeError: The images are not ``b 3 h w``.

    Example:
        >>> images = torch.rand(2, 3, 8, 8)
        >>> gray = same_lightness(images).expand(-1, 3, -1, -1)
        >>> torch.allclose(rgb_to_lab(gray)[:, 0], rgb_to_lab(images)[:, 0], atol=1e-2)
        True
    """
    _check_colors(images, "sRGB images b 3 h w")
    _, luminance, _ = _mixed(_TO_XYZ, _linear(_exact(images)))
    return _encoded(luminance)[:, None].to(images.dtype)


def _check_colors(images: Tensor, what: str) -> None:
    check_float_images(images)
    if images.shape[1] != 3:
        raise ShapeError(
            what,
            got=f"shape {tuple(images.shape)}",
            fix="Expand gray images: images.expand(-1, 3, -1, -1)."
            if images.shape[1] == 1
            else channels_fix(images.shape[1]),
        )


def _exact(images: Tensor) -> Tensor:
    return images if images.dtype == torch.float64 else images.float()


def _mixed(matrix: Matrix, images: Tensor) -> list[Tensor]:
    """Multiply the channels of ``b 3 h w``, one by one: a matrix product would round them, on a GPU or in autocast."""
    one, two, three = images.unbind(1)
    return [a * one + b * two + c * three for a, b, c in matrix]


def _linear(values: Tensor) -> Tensor:
    curve: Tensor = ((values.clamp(min=0.04045) + 0.055) / 1.055) ** 2.4
    return torch.where(values > 0.04045, curve, values / 12.92)


def _encoded(linear: Tensor) -> Tensor:
    curve = 1.055 * linear.clamp(min=0.0031308) ** (1 / 2.4) - 0.055
    return torch.where(linear > 0.0031308, curve, 12.92 * linear).clamp(0, 1)


def _root(values: Tensor) -> Tensor:
    return torch.where(values > _KNEE**3, values.clamp(min=_KNEE**3) ** (1 / 3), values / (3 * _KNEE**2) + 4 / 29)


def _cube(roots: Tensor) -> Tensor:
    return torch.where(roots > _KNEE, roots**3, 3 * _KNEE**2 * (roots - 4 / 29))
