"""Reconstruction losses: squared error of weighted pixels, or of masked patches."""

from __future__ import annotations

import torch
from torch import Tensor

from pretextkit._validation import check_floats
from pretextkit.distributed import all_reduce_mean
from pretextkit.errors import DataError, ShapeError
from pretextkit.losses._embeddings import in_full_precision

__all__ = ["masked_mse", "weighted_mse"]


def masked_mse(predictions: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
    """Compute the mean squared error of masked patches.

    The loss of masked autoencoders (He et al. 2022, arXiv 2111.06377): visible patches do not count. When
    :func:`~pretextkit.functional.pretrain` runs on several processes, the mean over processes of the returned errors is
    the error of the full batch.

    Args:
        predictions: ``b n d``, pixels of the ``n`` patches of each image.
        targets: ``b n d``.
        mask: ``b n``, bool: True where a patch is masked.

    Returns:
        ``()``; 0 if no patch is masked.

    Raises:
        ShapeError: The shapes differ; broadcasting is not allowed.
        DataError: Predictions or targets are not of a floating-point dtype, or the mask is not bool.

    Example:
        >>> mask = torch.tensor([[True, False]])
        >>> masked_mse(torch.tensor([[[2.0], [9.0]]]), torch.zeros(1, 2, 1), mask)
        tensor(4.)
    """
    if targets.ndim != 3 or predictions.shape != targets.shape or mask.shape != targets.shape[:2]:
        raise ShapeError(
            "predictions and targets b n d, and a mask b n",
            got=f"{tuple(predictions.shape)}, {tuple(targets.shape)} and {tuple(mask.shape)}",
            fix="Pass one entry of the mask for each patch.",
        )
    check_floats(predictions, "predictions")
    check_floats(targets, "targets")
    if mask.dtype != torch.bool:
        raise DataError("a bool mask", got=str(mask.dtype), fix="Mark masked patches with True.")
    errors = (in_full_precision(predictions) - in_full_precision(targets)).square().mean(2)
    masked = mask.to(errors.dtype)
    return (masked * errors).sum() / all_reduce_mean(masked.sum()).clamp(min=1e-8)


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
