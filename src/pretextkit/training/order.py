"""Which images every step of a run sees."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

import torch
from torch import Tensor

from pretextkit.data.sources import ImageBatch, ImageSource, LoaderImages
from pretextkit.training.seeds import derived_generator

__all__ = ["Order"]


class Order:
    """Which images every step of a run sees."""

    def __init__(self, source: ImageSource, batch_size: int, per_epoch: int, seed: int) -> None:
        self.source, self.batch_size, self.per_epoch, self.seed = source, batch_size, per_epoch, seed

    def batches(self, start: int, total: int) -> Iterator[tuple[int, Tensor, Tensor | None]]:
        """Read the batches of steps ``start`` to ``total``, each with its step."""
        step = start
        while step < total:
            epoch, position = divmod(step, self.per_epoch)
            generator = derived_generator(self.seed, "order", epoch)
            order = torch.split(torch.randperm(len(self.source), generator=generator), self.batch_size)
            count = min(self.per_epoch - position, total - step)
            for images, labels in islice(self._read(order[: self.per_epoch], position), count):
                yield step, images, labels
                step += 1

    def _read(self, order: Sequence[Tensor], position: int) -> Iterator[ImageBatch]:
        if isinstance(self.source, LoaderImages):  # which decides its own order: pass over what was seen
            return islice(self.source.batches(order), position, None)
        return self.source.batches(order[position:])
