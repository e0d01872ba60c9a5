"""CIE Lab: lightness apart from colour, in units of which the eye sees equal steps alike."""

from __future__ import annotations

import torch
from torch import Tensor

from pretextkit.errors import ShapeError
from pretextkit.views.draw import require_floats

__all__ = ["lab_to_rgb", "rgb_to_lab"]

# Linear sRGB to XYZ (IEC 61966-2-1). Rows are divided by their sums, the white of D65, so that grey has no chroma.
_XYZ_FROM_RGB = (
    (0.4124564, 0.3575761, 0.1804375),
    (0.2126729, 0.7151522, 0.0721750),
    (0.0193339, 0.1191920, 0.9503041),
)
_LAB_FROM_ROOTS = ((0.0, 116.0, 0.0), (500.0, -500.0, 0.0), (0.0, 200.0, -200.0))
_KNEE = 6 / 29
"""Where the cube root goes over into a line."""


def rgb_to_lab(images: Tensor) -> Tensor:
    """Turn sRGB images into CIE Lab, under the white D65 (CIE 15:2004).

    Args:
        images: ``b 3 h w`` in [0, 1].

    Returns:
        ``b 3 h w``: lightness L* in [0, 100], then a* from green to red and b* from blue to yellow, both within 110 of
        0, which is grey.

    Raises:
        DataError: The images are no floats.
        ShapeError: The images are not ``b 3 h w``.

    Example:
        >>> red, white = torch.tensor([1.0, 0.0, 0.0]), torch.ones(3)
        >>> rgb_to_lab(torch.stack([red, white])[:, :, None, None]).flatten(1).round()
        tensor([[ 53.,  80.,  67.],
                [100.,   0.,   0.]])
    """
    _require_three(images, "sRGB images b 3 h w")
    exact = images if images.dtype == torch.float64 else images.float()
    line = exact / 12.92
    linear = torch.where(exact > 0.04045, ((exact.clamp(min=0.04045) + 0.055) / 1.055) ** 2.4, line)
    xyz = _mix(_to_white(), linear)
    roots = torch.where(xyz > _KNEE**3, xyz.clamp(min=_KNEE**3) ** (1 / 3), xyz / (3 * _KNEE**2) + 4 / 29)
    lab = _mix(torch.tensor(_LAB_FROM_ROOTS), roots)
    lab[:, 0] -= 16
    return lab.to(images.dtype)


def lab_to_rgb(lab: Tensor) -> Tensor:
    """Turn CIE Lab back into sRGB; colours that no screen shows go to the nearest value of each channel.

    Args:
        lab: ``b 3 h w``: L*, a* and b*, as :func:`rgb_to_lab` gives them.

    Returns:
        ``b 3 h w`` in [0, 1].

    Raises:
        DataError: They are no floats.
        ShapeError: They are not ``b 3 h w``.

    Example:
        >>> images = torch.rand(2, 3, 8, 8)
        >>> torch.allclose(lab_to_rgb(rgb_to_lab(images)), images, atol=1e-4)
        True
    """
    _require_three(lab, "Lab images b 3 h w")
    exact = lab if lab.dtype == torch.float64 else lab.float()
    offset = exact.new_tensor([16.0, 0.0, 0.0]).view(1, 3, 1, 1)
    roots = _mix(torch.linalg.inv(torch.tensor(_LAB_FROM_ROOTS, dtype=torch.float64)), exact + offset)
    xyz = torch.where(roots > _KNEE, roots**3, 3 * _KNEE**2 * (roots - 4 / 29))
    linear = _mix(torch.linalg.inv(_to_white()), xyz)
    curve = 1.055 * linear.clamp(min=0.0031308) ** (1 / 2.4) - 0.055
    return torch.where(linear > 0.0031308, curve, 12.92 * linear).clamp(0, 1).to(lab.dtype)


def _require_three(images: Tensor, what: str) -> None:
    require_floats(images)
    if images.shape[1] != 3:
        raise ShapeError(what, got=f"shape {tuple(images.shape)}", fix="Grey images: images.expand(-1, 3, -1, -1).")


def _to_white() -> Tensor:
    matrix = torch.tensor(_XYZ_FROM_RGB, dtype=torch.float64)
    return matrix / matrix.sum(1, keepdim=True)


def _mix(matrix: Tensor, images: Tensor) -> Tensor:
    """Multiply the channels of ``b 3 h w`` by a 3x3 matrix, which autocast would do in half precision."""
    with torch.autocast(images.device.type, enabled=False):
        return torch.matmul(matrix.to(images), images.flatten(2)).view_as(images)
