"""A warning for images much larger than those of the training."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from pretextkit._recipes import training_of
from pretextkit.data._image_size import as_size
from pretextkit.errors import DataWarning, warn

__all__ = ["warn_of_larger_images"]

LARGER = 2.0
"""Ratio of sides (the root of the ratio of areas) from which images are much larger than those of the training."""


def warn_of_larger_images(model: Any, images: Tensor) -> None:
    """Warn if a backbone gets images with sides twice as long as those of its training, or longer.

    Smaller images do not warn: they cost less, and crops are part of most trainings.

    Args:
        model: The backbone; nothing is known of other modules and of functions.
        images: ``b c h w``; features ``b d`` are passed over.

    Warns:
        DataWarning: The images are that large.
    """
    trained = training_of(model).get("image format") if isinstance(model, nn.Module) else None
    if not trained or images.ndim != 4:
        return
    height, width = images.shape[2:]
    if height * width < LARGER**2 * trained["height"] * trained["width"]:
        return
    size = f"{trained['height']}x{trained['width']}"
    fix = f"size={as_size(trained['height'], trained['width'])}"
    warn(
        f"The backbone was trained on images of {size} pixels, and gets {height}x{width}: its features see smaller "
        f"parts of an object than in training. Resize the images ({fix}), or pretrain on larger ones.",
        DataWarning,
        see="images-much-larger-than-those-of-the-training",
    )
