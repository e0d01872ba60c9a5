"""The game between what makes images and a critic that tells them from true ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pretextkit.errors import ShapeError
from pretextkit.losses.rows import require_floats

__all__ = ["critic_loss", "fooling_loss"]


def critic_loss(true: Tensor, made: Tensor) -> Tensor:
    """Score how well a critic tells true images from made ones.

    The binary cross entropy that the critic of a generative adversarial network goes down on (Goodfellow et al. 2014,
    arXiv 1406.2661, equation 1): ``2 log 2`` if it cannot tell, 0 if it is sure and right.

    Args:
        true: Logits of true images, of any shape; above 0 where the critic takes them for true.
        made: Likewise of made ones, of the same shape.

    Returns:
        ``()``: mean over true ones plus mean over made ones.

    Raises:
        ShapeError: The shapes differ, or there are none.
        DataError: They are not of floats.

    Example:
        >>> critic_loss(torch.zeros(4), torch.zeros(4))
        tensor(1.3863)
    """
    if true.shape != made.shape:
        raise ShapeError(
            "logits of as many made images as true ones",
            got=f"shapes {tuple(true.shape)} and {tuple(made.shape)}",
            fix="Let the critic judge both in one size.",
        )
    return nn.functional.softplus(-_logits(true)).mean() + nn.functional.softplus(_logits(made)).mean()


def fooling_loss(made: Tensor) -> Tensor:
    """Score how far made images are from being taken for true ones.

    The form whose gradient does not vanish where the critic is sure (Goodfellow et al. 2014, section 3).

    Args:
        made: A critic's logits of made images, of any shape.

    Returns:
        ``()``: mean of ``log(1 + exp(-made))``.

    Raises:
        ShapeError: There are none.
        DataError: They are not of floats.

    Example:
        >>> fooling_loss(torch.zeros(4))
        tensor(0.6931)
    """
    return nn.functional.softplus(-_logits(made)).mean()


def _logits(values: Tensor) -> Tensor:
    if not values.numel():
        raise ShapeError("at least one logit", got=f"shape {tuple(values.shape)}", fix="Look at what the critic gives.")
    require_floats(values, "logits")
    return values if values.dtype == torch.float64 else values.float()
