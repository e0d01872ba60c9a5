"""Peak signal-to-noise ratio."""

from __future__ import annotations

from torch import Tensor

from pretextkit._validation import check_floats

__all__ = ["psnr"]


def psnr(mse: Tensor) -> Tensor:
    """Convert the mean squared error of images in [0, 1] to the peak signal-to-noise ratio in decibels.

    A tenth of the error adds 10 dB. Errors below 1e-10 count as 1e-10, which is 100 dB.

    Args:
        mse: Mean squared error, of any shape.

    Returns:
        Decibels, of the shape of ``mse``, without gradient.

    Raises:
        DataError: ``mse`` is not floating-point.

    Example:
        >>> import torch
        >>> psnr(torch.tensor(0.01))
        tensor(20.)
    """
    check_floats(mse, "a mean squared error")
    return -10 * mse.detach().clamp(min=1e-10).log10()
