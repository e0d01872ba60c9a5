"""The game between what makes images and a discriminator that tells them from true ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pretextkit._validation import check_floats
from pretextkit.errors import ShapeError

__all__ = ["discriminator_loss", "generator_loss"]


def discriminator_loss(true: Tensor, made: Tensor) -> Tensor:
    """Score how well a discriminator tells true images from made ones.

    The binary cross entropy that the discriminator of a generative adversarial network goes down on (Goodfellow et al. 2014,
    arXiv 1406.2661, equation 1): ``2 log 2`` if it cannot tell, 0 if it is sure and right.

    Args:
        true: Logits of true images, of any shape; above 0 where the discriminator takes them for true.
        made: Likewise of made ones, of the same shape.

    Returns:
        ``()``: mean over true ones plus mean over made ones.

    Raises:
        ShapeError: The shapes differ, or there are none.
        DataError: They are not of floats.

    Example:
        >>> discriminator_loss(torch.zeros(4), torch.zeros(4))
        tensor(1.3863)
    """
    if true.shape != made.shape:
        raise ShapeError(
            "logits of as many made images as true ones",
            got=f"shapes {tuple(true.shape)} and {tuple(made.shape)}",
            fix="Let the discriminator judge both in one size.",
        )
    return nn.functional.softplus(-_logits(true)).mean() + nn.functional.softplus(_logits(made)).mean()


def generator_loss(made: Tensor) -> Tensor:
    """Score how far made images are from being taken for true ones.

    The form whose gradient does not vanish where the discriminator is sure (Goodfellow et al. 2014, section 3).

    Args:
        made: A discriminator's logits of made images, of any shape.

    Returns:
        ``()``: mean of ``log(1 + exp(-made))``.

    Raises:
        ShapeError: There are none.
        DataError: They are not of floats.

    Example:
        >>> generator_loss(torch.zeros(4))
        tensor(0.6931)
    """
    return nn.functional.softplus(-_logits(made)).mean()


def _logits(values: Tensor) -> Tensor:
    if not values.numel():
        raise ShapeError(
            "at least one logit", got=f"shape {tuple(values.shape)}", fix="Look at what the discriminator gives."
        )
    check_floats(values, "logits")
    return values if values.dtype == torch.float64 else values.float()
