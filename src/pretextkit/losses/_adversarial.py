"""Discriminator and generator losses of adversarial training."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pretextkit._validation import check_floats
from pretextkit.errors import ShapeError

__all__ = ["discriminator_loss", "generator_loss"]


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Compute the binary cross entropy of a discriminator of real and fake images.

    The discriminator minimizes this loss (Goodfellow et al. 2014, arXiv 1406.2661, equation 1). The loss is ``2 log 2``
    for random guesses and 0 for confident, correct logits.

    Args:
        real: Logits of real images, any shape; the discriminator should make them positive.
        fake: Logits of generated images, same shape; the discriminator should make them negative.

    Returns:
        ``()``, the mean over real logits plus the mean over fake logits.

    Raises:
        ShapeError: The shapes differ, or there are no logits.
        DataError: The logits are not of a floating-point dtype.

    Example:
        >>> discriminator_loss(torch.zeros(4), torch.zeros(4))
        tensor(1.3863)
    """
    if real.shape != fake.shape:
        raise ShapeError(
            "real and fake logits of the same shape",
            got=f"shapes {tuple(real.shape)} and {tuple(fake.shape)}",
            fix="Pass real and fake images of the same shape to the discriminator.",
        )
    return nn.functional.softplus(-_check_logits(real)).mean() + nn.functional.softplus(_check_logits(fake)).mean()


def generator_loss(fake: Tensor) -> Tensor:
    """Compute the non-saturating loss of a generator.

    Unlike the negated discriminator loss, its gradient does not vanish when the discriminator is confident (Goodfellow
    et al. 2014, section 3).

    Args:
        fake: Discriminator logits of generated images, any shape.

    Returns:
        ``()``, the mean of ``log(1 + exp(-fake))``.

    Raises:
        ShapeError: There are no logits.
        DataError: The logits are not of a floating-point dtype.

    Example:
        >>> generator_loss(torch.zeros(4))
        tensor(0.6931)
    """
    return nn.functional.softplus(-_check_logits(fake)).mean()


def _check_logits(logits: Tensor) -> Tensor:
    if not logits.numel():
        raise ShapeError(
            "at least one logit", got=f"shape {tuple(logits.shape)}", fix="Check the output of the discriminator."
        )
    check_floats(logits, "logits")
    return logits if logits.dtype == torch.float64 else logits.float()
