"""How far reconstructed pixels are from the true ones."""

from __future__ import annotations

import torch
from torch import Tensor

from pretextkit._validation import check_floats
from pretextkit.distributed import all_reduce_mean
from pretextkit.errors import ShapeError

__all__ = ["psnr", "weighted_mse"]


def weighted_mse(predictions: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Average the squared error of the pixels, each with its own weight.

    Where :func:`~pretextkit.functional.pretrain` runs on several processes, the sum of weights is the mean of theirs,
    so that the mean over the processes of what each returns is that of the whole batch.

    Args:
        predictions: ``b c h w``.
        targets: ``b c h w``.
        weights: ``b 1 h w``, at least 0; a bool mask counts its True pixels alone.

    Returns:
        ``()``: the sum of weight times error over the sum of weights; 0 where all weights are.

    Raises:
        ShapeError: They have other shapes, which would be stretched to fit one another.
        DataError: They are not of floats.

    Example:
        >>> weights = torch.tensor([[[[1.0, 3.0]]]])
        >>> weighted_mse(torch.tensor([[[[0.0, 2.0]]]]), torch.zeros(1, 1, 1, 2), weights)
        tensor(3.)
    """
    wanted = (len(targets), 1, *targets.shape[2:]) if targets.ndim == 4 else None
    if predictions.shape != targets.shape or weights.shape != wanted:
        raise ShapeError(
            "predictions and targets b c h w, and weights b 1 h w",
            got=f"{tuple(predictions.shape)}, {tuple(targets.shape)} and {tuple(weights.shape)}",
            fix="Scale predictions to their targets, and give each pixel one weight.",
        )
    check_floats(predictions, "predictions")
    check_floats(targets, "targets")
    if weights.dtype != torch.bool:
        check_floats(weights, "weights")
    errors = (predictions.float() - targets.float()).square().mean(1, keepdim=True)
    weights = weights.float()
    return (weights * errors).sum() / all_reduce_mean(weights.sum()).clamp(min=1e-8)


def psnr(mse: Tensor) -> Tensor:
    """Give the peak signal-to-noise ratio in decibels of images in [0, 1] with this mean squared error.

    Ten more are a tenth of the error; it ends at 100, for errors too small to matter.

    Raises:
        DataError: It is no float.

    Example:
        >>> psnr(torch.tensor(0.01))
        tensor(20.)
    """
    check_floats(mse, "a mean squared error")
    return -10 * mse.detach().clamp(min=1e-10).log10()
