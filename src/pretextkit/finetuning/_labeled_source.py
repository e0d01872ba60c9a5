"""The labeled images of a source, for training in epochs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from typing_extensions import Unpack

from pretextkit._fingerprint import digest
from pretextkit._seeding import derived_seed, seeded
from pretextkit.data import LabeledLike, as_source
from pretextkit.data._collate import ImageBatch, concat, in_color, join_labels, rebatch
from pretextkit.data._sources import ImageSource, WrappedSource
from pretextkit.data._tensor_images import TensorImages
from pretextkit.errors import DataError
from pretextkit.evaluation._features import ExtractOptions, LabeledFeatures, Model, labeled_features
from pretextkit.evaluation._labels import labeled_images, labeled_part, labeled_rows
from pretextkit.evaluation._storage import FeatureStore

__all__ = ["LabeledSource", "cached_features", "labeled_source"]

BATCH_SIZE = 256
"""Images in a batch of a reading in order."""


class LabeledSource(WrappedSource):
    """The labeled images of a source, which is read again in every epoch.

    Where the source has an index, unlabeled images are left out by their index. Where the source decides the order,
    unlabeled images are removed from its batches, and a pass that ends too early is followed by another.

    Args:
        source: The images.
        labels: Labels ``n`` of all images, -1 where unlabeled, from one reading in order.
        digests: Description of each of the ``n`` images, from the same reading.
        colored: Whether there are RGB images; gray images then become RGB.
    """

    def __init__(self, source: ImageSource, labels: Tensor, digests: Sequence[str], colored: bool) -> None:
        super().__init__(source)
        self.colored = colored
        self.rows = torch.nonzero(labels >= 0)[:, 0]
        self.labels = labels[self.rows]
        self.digests = [digests[row] for row in self.rows.tolist()]

    def __len__(self) -> int:
        return len(self.rows)

    def batches(self, order: Sequence[Tensor]) -> Iterator[ImageBatch]:
        if self.decides_order:
            return map(self._checked, rebatch(self._passes(), map(len, order)))
        return map(self._checked, self.source.batches([self.rows[indices] for indices in order]))

    def _passes(self) -> Iterator[ImageBatch]:
        """Read the labeled images of the source again and again."""
        size = min(self.source.preferred_batch_size or BATCH_SIZE, len(self.source))
        while True:
            found = 0
            for batch in self.source.batches(torch.split(torch.arange(len(self.source)), size)):
                if labeled := labeled_part(batch):
                    found += len(labeled.images)
                    yield labeled
            if not found:
                raise DataError("labels in every epoch", got="a pass without any", fix="Check the data's sampler.")

    def _checked(self, batch: ImageBatch) -> ImageBatch:
        low, high = (-1, -1) if batch.labels is None else map(int, torch.aminmax(batch.labels))
        top = int(self.labels.max())
        if low < 0 or high > top:
            raise DataError(
                f"labels 0 to {top} in every epoch, as in the first reading",
                got="an image without a label" if low < 0 else f"label {high}",
                fix="Let the dataset return the same label for an image on every reading.",
            )
        return in_color(batch) if self.colored else batch


class _Changed(Exception):
    """An image came out differently on a second reading."""


class _Compared(ImageSource):
    """A source whose second reading is compared with the first."""

    def __init__(self, source: LabeledSource) -> None:
        self.source = source
        self.digests: list[str] = []

    def __len__(self) -> int:
        return len(self.source)

    def batches(self, order: Sequence[Tensor]) -> Iterator[ImageBatch]:
        for batch in self.source.batches(order):
            self.digests += _digests(batch)
            if not self.source.decides_order and self.digests != self.source.digests[: len(self.digests)]:
                raise _Changed
            yield batch


def labeled_source(data: LabeledLike, what: str, seed: int, workers: int) -> tuple[ImageSource, Tensor]:
    """Read the labels of ``data`` once, and give a source of its labeled images.

    Tensors give a tensor. A source that decides its order, and gives the same images in the same order on a second
    reading, is held in memory, to be shuffled. Every other source is read again in every epoch.

    Args:
        data: Images with labels.
        what: Name of the data in errors, such as ``train``.
        seed: Seed of random transforms in the two readings.
        workers: Number of processes that read a ``Dataset`` or folder.

    Returns:
        The labeled images, and their labels ``n``.

    Raises:
        DataError: There are no labels.
    """
    source = as_source(data, workers=workers)
    if isinstance(source, TensorImages):
        return labeled_images(source, what)
    labels: list[Tensor | None] = []
    digests: list[str] = []
    counts = []
    colored = False
    with seeded(derived_seed(seed, "labels")):
        for batch in source.in_order(BATCH_SIZE):
            labels.append(batch.labels)
            counts.append(len(batch.images))
            colored = colored or batch.images.shape[1] == 3
            digests += _digests(batch)
    targets = join_labels(labels, counts)
    labeled_rows(targets, what)
    assert targets is not None
    assert len(targets) == len(digests) == len(source)
    labeled = LabeledSource(source, targets, digests, colored)
    held = _in_memory(labeled, seed) if source.decides_order else None
    return held or labeled, labeled.labels


def cached_features(
    backbone: Model, source: LabeledSource, seed: int, **options: Unpack[ExtractOptions]
) -> LabeledFeatures | None:
    """Extract the features of all images, or return None if the images differ on a second reading."""
    if source.copied_generator is not None:
        return None
    compared = _Compared(source)
    with seeded(derived_seed(seed, "features")):
        try:
            found = labeled_features(backbone, compared, "train", FeatureStore(), **options)
        except _Changed:
            return None
    return found if sorted(compared.digests) == sorted(source.digests) else None


def _in_memory(source: LabeledSource, seed: int) -> TensorImages | None:
    """Read the images again; None as soon as an image or the order differs from the first reading."""
    parts: list[ImageBatch] = []
    done = 0
    with seeded(derived_seed(seed, "second reading")):
        for batch in source.in_order(BATCH_SIZE):
            found = _digests(batch)
            if found != source.digests[done : done + len(found)]:
                return None
            done += len(found)
            parts.append(batch)
    return TensorImages(*concat(parts), class_names=source.class_names)


def _digests(batch: ImageBatch) -> list[str]:
    labels = batch.labels if batch.labels is not None else torch.full((len(batch.images),), -1)
    images = in_color(batch).images  # a gray image is the same alone and in a batch of RGB images
    return [f"{digest([image])} {label}" for image, label in zip(images, labels.tolist(), strict=True)]
