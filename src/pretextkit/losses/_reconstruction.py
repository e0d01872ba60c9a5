"""Reconstruction loss: weighted squared error of pixels."""

from __future__ import annotations

import torch
from torch import Tensor

from pretextkit._validation import check_floats
from pretextkit.distributed import all_reduce_mean
from pretextkit.errors import ShapeError

__all__ = ["weighted_mse"]


def weighted_mse(predictions: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Compute the weighted mean squared error of pixels.

    When :func:`~pretextkit.functional.pretrain` runs on several processes, the sum of weights is averaged over
    processes. The mean over processes of the returned errors is therefore the error of the full batch.

    Args:
        predictions: ``b c h w``.
        targets: ``b c h w``.
        weights: ``b 1 h w``, nonnegative; a bool mask selects pixels.

    Returns:
        ``()``, the sum of weight times error over the sum of weights; 0 if all weights are 0.

    Raises:
        ShapeError: The shapes differ; broadcasting is not allowed.
        DataError: An argument is not of a floating-point dtype.

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
            fix="Resize predictions to their targets, and pass one weight for each pixel.",
        )
    check_floats(predictions, "predictions")
    check_floats(targets, "targets")
    if weights.dtype != torch.bool:
        check_floats(weights, "weights")
    errors = (predictions.float() - targets.float()).square().mean(1, keepdim=True)
    weights = weights.float()
    return (weights * errors).sum() / all_reduce_mean(weights.sum()).clamp(min=1e-8)
