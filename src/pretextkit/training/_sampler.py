"""Which images every step of a run sees."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from pretextkit._seeding import derived_generator, derived_seed
from pretextkit.data._sources import ImageSource, LoaderImages
from pretextkit.data._stream import StreamImages
from pretextkit.distributed._batch_slices import BatchSlice
from pretextkit.errors import DataError

__all__ = ["BatchSampler"]

PARTS = (
    "The stream ends before its length says. Where several processes or workers read, give each as much: shards of one "
    "size, as many as a multiple of processes x workers; or pass a smaller length."
)


class BatchSampler:
    """Which images every step of a run sees.

    Args:
        source: Where they are read.
        batch_size: Images in a step, of all processes together.
        per_epoch: Steps in an epoch.
        seed: Decides the order.
        share: Which part of each batch this process reads. The order is that of all of them.
    """

    def __init__(
        self,
        source: ImageSource,
        batch_size: int,
        per_epoch: int,
        seed: int,
        share: BatchSlice = BatchSlice(0, 1),  # noqa: B008 - a tuple, which cannot change
    ) -> None:
        self.source, self.batch_size, self.per_epoch, self.seed = source, batch_size, per_epoch, seed
        self.rows = share.rows(batch_size)

    def batches(self, start: int, total: int) -> Iterator[tuple[int, Tensor, Tensor | None]]:
        """Read the batches of steps ``start`` to ``total``, each with its step.

        Every epoch and every read is preceded by seeding the global generator, for data sets (which go by the epoch's
        seed) and loaders that draw from it (random transforms, ``shuffle=True``): they repeat under one seed, and go on
        as they would have. Fork it around this.
        """
        step = start
        while step < total:
            epoch, position = divmod(step, self.per_epoch)
            generator = derived_generator(self.seed, "order", epoch)
            order = torch.split(torch.randperm(len(self.source), generator=generator), self.batch_size)
            # A loader or stream decides its own order: read from the start, and pass over what was seen. A loader's
            # order is that of all processes, a stream is this one's part.
            loader, flow = isinstance(self.source, LoaderImages), isinstance(self.source, StreamImages)
            first = 0 if loader or flow else position
            torch.default_generator.manual_seed(derived_seed(self.seed, "epoch", epoch))
            batches = order[first : self.per_epoch]
            stream = self.source.batches(batches if loader else [indices[self.rows] for indices in batches])
            for place in range(first, min(self.per_epoch, position + total - step)):
                torch.default_generator.manual_seed(derived_seed(self.seed, "reading", epoch * self.per_epoch + place))
                asked = self.batch_size if loader else self.rows.stop - self.rows.start
                if (batch := next(stream, None)) is None or len(batch.images) < asked:
                    raise DataError(
                        f"{self.per_epoch} batches of {self.batch_size} in an epoch of {len(self.source)} images",
                        got=f"{place - first} and no more",
                        fix=PARTS
                        if flow
                        else "The source ends before its length says: a schedule would end with it. Mend its __len__.",
                    )
                images, labels = batch
                if place >= position:
                    if loader:
                        images, labels = images[self.rows], None if labels is None else labels[self.rows]
                    yield step, images, labels
                    step += 1
