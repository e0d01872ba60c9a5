"""Cost of a pretext task: views per image."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pretextkit._evaluation_mode import evaluation_mode
from pretextkit._seeding import derived_generator
from pretextkit.contracts import PretextTask
from pretextkit.data import ImagesLike, as_source
from pretextkit.errors import OptionError
from pretextkit.training._task_check import check_task

__all__ = ["views_per_image"]


@torch.no_grad()
def views_per_image(task: PretextTask[Any, Any], images: ImagesLike) -> float:
    """Count the pixels that a step sends through the backbone, in full images per image read.

    The cost of a convolution is proportional to its pixels: four rotations cost four views, and eight patches of one
    sixteenth of the image cost half a view.

    Args:
        task: Pretext task; its state does not change.
        images: Tensor ``n c h w``, numpy array, ``Dataset``, ``DataLoader`` or the path of a folder; a step
            on the first eight is measured.

    Returns:
        Views per image.

    Raises:
        OptionError: ``task`` is no pretext task, or the backbone does not call its normalization, where pixels are
            counted.

    Example:
        >>> import pretextkit as pk
        >>> task = pk.tasks.Rotation(pk.models.SmallCNN())
        >>> views_per_image(task, torch.rand(8, 3, 32, 32))
        4.0
    """
    check_task(task)
    batch = next(iter(as_source(images, labels=False).in_order(8))).images
    pixels = 0

    def count(module: Any, inputs: tuple[Tensor, ...]) -> None:
        nonlocal pixels
        pixels += inputs[0].shape[0] * inputs[0].shape[2] * inputs[0].shape[3]

    handle = task.backbone.normalization.register_forward_pre_hook(count)
    try:
        with evaluation_mode(task):
            task.step(batch, derived_generator(0, "count views"))
    finally:
        handle.remove()
    if not pixels:
        raise OptionError(
            "a backbone that calls self.normalization",
            got=f"{type(task.backbone).__name__}, which does not",
            fix="Call self.normalization(images) first in its forward.",
        )
    return pixels / (len(batch) * batch.shape[2] * batch.shape[3])
