"""Images for a model, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from pretextkit._validation import check_int
from pretextkit.data import as_source

__all__ = ["image_batches"]


def image_batches(images: Any, batch_size: int, device: torch.device, of: Callable[..., Any]) -> Iterator[Tensor]:
    """Read images in their order as float ``b c h w`` in [0, 1] on a device.

    Raises:
        OptionError: ``batch_size`` is below 1.
        DataError, ShapeError: These are no images.

    Example:
        >>> [batch.shape[0] for batch in image_batches(torch.rand(5, 1, 8, 8), 2, torch.device("cpu"), print)]
        [2, 2, 1]
    """
    batch_size = check_int("batch_size", batch_size, of=of)
    source = as_source(images).without_labels()
    for batch in source.in_order(batch_size):
        inputs = batch.images.to(device)
        yield inputs if inputs.is_floating_point() else inputs.float() / 255
