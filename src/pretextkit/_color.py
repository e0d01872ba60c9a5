"""Bytes to floats, and color to gray."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["LUMA", "as_float", "luma", "match_channels"]

LUMA = (0.299, 0.587, 0.114)
"""Luma weights of red, green and blue (ITU-R BT.601)."""


def as_float(images: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Convert images to ``dtype`` in [0, 1]: divide integers by 255, keep the values of floats.

    Example:
        >>> as_float(torch.tensor([0, 51, 255], dtype=torch.uint8))
        tensor([0.0000, 0.2000, 1.0000])
    """
    return images.to(dtype) if images.is_floating_point() else images.to(dtype) / 255


def luma(images: Tensor) -> Tensor:
    """Map float images ``b 3 h w`` to their luma ``b 1 h w``.

    Example:
        >>> luma(torch.tensor([0.0, 1.0, 0.0]).view(1, 3, 1, 1)).item()
        0.587...
    """
    return (images * images.new_tensor(LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)


def match_channels(images: Tensor, channels: int) -> Tensor:
    """Convert float images ``b c h w`` to ``channels`` channels: gray to RGB, RGB to luma, others as they are.

    Example:
        >>> match_channels(torch.rand(2, 1, 8, 8), 3).shape, match_channels(torch.rand(2, 13, 8, 8), 13).shape
        (torch.Size([2, 3, 8, 8]), torch.Size([2, 13, 8, 8]))
    """
    if images.shape[1] == channels:
        return images
    return images.expand(-1, 3, -1, -1) if channels == 3 else luma(images)
