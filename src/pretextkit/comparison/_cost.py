"""What a step of a pretext task costs: how many views it makes of each image."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pretextkit._evaluation_mode import evaluation_mode
from pretextkit._seeding import derived_generator
from pretextkit.contracts import PretextTask
from pretextkit.data import as_source
from pretextkit.errors import OptionError

__all__ = ["views_per_image"]


@torch.no_grad()
def views_per_image(task: PretextTask[Any, Any], images: Any) -> float:
    """Count the pixels that a step brings through the backbone, in whole images for each image read.

    A convolution costs in proportion to the pixels it sees: four rotations cost four views, and eight patches of a
    sixteenth of the image half a view.

    Args:
        task: Left as it was.
        images: Tensor ``n c h w``, numpy array, ``Dataset``, ``DataLoader`` or a folder's path; the first
            eight are tried.

    Returns:
        Views for each image.

    Raises:
        OptionError: The backbone does not call its normalization, at which pixels are counted.

    Example:
        >>> import pretextkit as pk
        >>> task = pk.tasks.Rotation(pk.models.SmallCNN())
        >>> views_per_image(task, torch.rand(8, 3, 32, 32))
        4.0
    """
    batch = next(iter(as_source(images, labels=False).in_order(8))).images
    seen = 0

    def look(module: Any, inputs: tuple[Tensor, ...]) -> None:
        nonlocal seen
        seen += inputs[0].shape[0] * inputs[0].shape[2] * inputs[0].shape[3]

    handle = task.backbone.normalization.register_forward_pre_hook(look)
    try:
        with evaluation_mode(task):
            task.step(batch, derived_generator(0, "count views"))
    finally:
        handle.remove()
    if not seen:
        raise OptionError(
            "a backbone that brings its images through self.normalization",
            got=f"{type(task.backbone).__name__}, which does not",
            fix="Call self.normalization(images) first in its forward.",
        )
    return seen / (len(batch) * batch.shape[2] * batch.shape[3])
