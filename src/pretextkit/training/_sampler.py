"""Choice of the images of every step, and of the images that set input normalizations."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from pretextkit._seeding import derived_generator, derived_seed, seeded
from pretextkit.contracts import InputNormalization
from pretextkit.data._brightness import warn_of_dark_images
from pretextkit.data._collate import ImageBatch, concat
from pretextkit.data._sources import ImageSource
from pretextkit.data._tensor_images import TensorImages
from pretextkit.distributed._batch_slices import BatchSlice
from pretextkit.errors import DataError

__all__ = ["BatchSampler", "sample_images", "unmeasured_normalizations"]

UNEQUAL_PARTS = (
    "The stream ends before its length says. Give every process and worker the same number of images: shards of equal "
    "size, whose number is a multiple of processes x workers. Or pass a smaller length."
)

MEASURED_IMAGES = 4096
"""Images from which a normalization is measured."""


class BatchSampler:
    """Reader of the images of every step.

    Args:
        source: The images.
        batch_size: Images in a step, on all processes together.
        per_epoch: Steps in an epoch.
        seed: Seed of the order, which is the same on all processes.
        batch_slice: The part of each batch that this process reads.
    """

    def __init__(
        self,
        source: ImageSource,
        batch_size: int,
        per_epoch: int,
        seed: int,
        batch_slice: BatchSlice = BatchSlice(0, 1),  # noqa: B008 - an immutable tuple
    ) -> None:
        self.source, self.batch_size, self.per_epoch, self.seed = source, batch_size, per_epoch, seed
        self.rows = batch_slice.rows(batch_size)

    def batches(self, start: int, total: int) -> Iterator[tuple[int, Tensor, Tensor | None]]:
        """Read the batches of steps ``start`` to ``total``, each with its step.

        The global generator is seeded before every epoch and every batch, because random transforms and loaders with
        ``shuffle=True`` draw from it: they repeat under one seed, also after a resume. The caller forks the generator.
        """
        step = start
        while step < total:
            epoch, position = divmod(step, self.per_epoch)
            first, stream = self._open_epoch(epoch, position)
            for place in range(first, min(self.per_epoch, position + total - step)):
                torch.default_generator.manual_seed(derived_seed(self.seed, "reading", epoch * self.per_epoch + place))
                batch = next(stream, None)
                if batch is None or len(batch.images) < self._batch_size_read:
                    raise self._ended(place - first)
                if place >= position:
                    yield step, *self._own_rows(batch)
                    step += 1

    @property
    def _reads_full_batches(self) -> bool:
        """Whether every process reads full batches and keeps its rows: a loader's order is that of all processes."""
        return self.source.decides_order and not self.source.splits_itself

    @property
    def _batch_size_read(self) -> int:
        return self.batch_size if self._reads_full_batches else self.rows.stop - self.rows.start

    def _open_epoch(self, epoch: int, position: int) -> tuple[int, Iterator[ImageBatch]]:
        """Start reading an epoch at ``position``; a source that decides its order is read from its start."""
        generator = derived_generator(self.seed, "order", epoch)
        order = torch.split(torch.randperm(len(self.source), generator=generator), self.batch_size)
        first = 0 if self.source.decides_order else position
        torch.default_generator.manual_seed(derived_seed(self.seed, "epoch", epoch))
        batches = order[first : self.per_epoch]
        if not self._reads_full_batches:
            batches = tuple(indices[self.rows] for indices in batches)
        return first, self.source.batches(batches)

    def _own_rows(self, batch: ImageBatch) -> ImageBatch:
        if not self._reads_full_batches:
            return batch
        return ImageBatch(batch.images[self.rows], None if batch.labels is None else batch.labels[self.rows])

    def _ended(self, found: int) -> DataError:
        return DataError(
            f"{self.per_epoch} batches of {self.batch_size} in an epoch of {len(self.source)} images",
            got=f"only {found}",
            fix=UNEQUAL_PARTS
            if self.source.splits_itself
            else "The source ends before its length says, and the schedule would end with it. Fix its __len__.",
        )


def unmeasured_normalizations(module: nn.Module) -> list[InputNormalization]:
    """List the input normalizations in training mode that are not measured yet."""
    return [m for m in module.modules() if isinstance(m, InputNormalization) and m.training and not m.measured]


def sample_images(source: ImageSource, seed: int) -> Tensor:
    """Read random images, from which input normalizations are measured."""
    order = torch.randperm(len(source), generator=derived_generator(seed, "normalization"))[:MEASURED_IMAGES]
    with seeded(derived_seed(seed, "normalization")):  # a loader draws from the global generator
        sample = concat(list(source.batches(torch.split(order, 256)))).images
    if not (isinstance(source, TensorImages) or source._known_as_dark):  # checked when they became a source
        warn_of_dark_images(sample, f"{len(sample)} images")
    return sample
