"""What a source of images offers, and sources that change the batches of another."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pretextkit._fingerprint import describe_images
from pretextkit._seeding import derived_seed, seeded
from pretextkit._validation import check_int
from pretextkit.data._brightness import watch_brightness
from pretextkit.data._collate import (
    ImageBatch,
    concat,
)
from pretextkit.data._image_files import inner_datasets
from pretextkit.errors import DataError, ShapeError

if TYPE_CHECKING:
    from pretextkit.data._tensor_images import TensorImages

__all__ = ["ImageSource", "WrappedSource"]

_FINGERPRINT_IMAGES = 8
"""Images that the fingerprint of a source describes."""


class ImageSource(ABC):
    """Images that can be read in batches.

    A subclass must have a length and :meth:`batches`; the other methods and properties have defaults.
    """

    @abstractmethod
    def __len__(self) -> int:
        """Count the images."""

    @abstractmethod
    def batches(self, order: Sequence[Tensor]) -> Iterator[ImageBatch]:
        """Read one batch for each tensor of indices in ``order``."""

    def in_order(self, batch_size: int) -> Iterator[ImageBatch]:
        """Read every image once, first to last, ``batch_size`` at a time.

        Raises:
            DataError: The source ends before its length says.
        """
        batch_size = check_int("batch_size", batch_size, fix="For example 256.")
        batches = _counted(self.batches(torch.split(torch.arange(len(self)), batch_size)), len(self))
        return batches if self._known_as_dark else watch_brightness(batches)

    @property
    def _known_as_dark(self) -> bool:
        """Whether a folder behind the source has warned of dark images when its files were listed."""
        return any(getattr(each, "_is_dark", False) for each in inner_datasets(self))

    def without_labels(self) -> ImageSource:
        """Drop the labels; pretextkit's own sources then do not read them."""
        return _Unlabeled(self)

    @property
    def decides_order(self) -> bool:
        """Whether the source decides the order of its images and ignores the indices."""
        return False

    @property
    def splits_itself(self) -> bool:
        """Whether each process and worker reads its own part of the images."""
        return False

    @property
    def fixed_order(self) -> bool:
        """Whether the source gives the same order in every epoch."""
        return False

    @property
    def preferred_batch_size(self) -> int | None:
        """Batch size that the source was built with; ``None`` without one."""
        return None

    @property
    def copied_generator(self) -> str | None:
        """Name of a dataset whose workers copy its own random generator; ``None`` without such a dataset."""
        return None

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Names of the classes, by label; ``None`` without names."""
        return None

    def fingerprint(self) -> str | None:
        """Describe the first images; ``None`` if the order or the content may differ between two readings."""
        if self.decides_order:
            return None
        one, other = self._describe_first(), self._describe_first()
        return one if one == other else None

    def draws_transforms(self) -> bool:
        """Whether the first images differ between readings with different seeds, as with random transforms.

        False if the source decides the order, because other images may come first.
        """
        return not self.decides_order and self._describe_first() != self._describe_first(seed=1)

    def check_unsplit(self) -> None:  # noqa: B027 - most sources have nothing to check
        """Refuse a source that is already split among processes.

        Raises:
            OptionError: Another tool splits the images among the processes.
        """

    def in_memory(self) -> TensorImages:
        """Read all images, and labels if there are any, into one tensor."""
        from pretextkit.data._tensor_images import TensorImages  # a source too, which imports this file

        return TensorImages(*concat(list(self.in_order(256))), class_names=self.class_names)

    def _describe_first(self, seed: int = 0) -> str:
        with seeded(derived_seed(seed, "identity")):  # random transforms draw from the global generator
            first = torch.arange(min(_FINGERPRINT_IMAGES, len(self)))
            return describe_images(next(iter(self.batches([first]))).images)


class WrappedSource(ImageSource):
    """A source whose batches are changed, and that otherwise answers like the original."""

    def __init__(self, source: ImageSource) -> None:
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    @property
    def decides_order(self) -> bool:
        return self.source.decides_order

    @property
    def splits_itself(self) -> bool:
        return self.source.splits_itself

    @property
    def fixed_order(self) -> bool:
        return self.source.fixed_order

    @property
    def preferred_batch_size(self) -> int | None:
        return self.source.preferred_batch_size

    @property
    def copied_generator(self) -> str | None:
        return self.source.copied_generator

    @property
    def class_names(self) -> tuple[str, ...] | None:
        return self.source.class_names

    def fingerprint(self) -> str | None:
        return self.source.fingerprint()

    def check_unsplit(self) -> None:
        self.source.check_unsplit()


class _Unlabeled(WrappedSource):
    """A source without its labels."""

    def batches(self, order: Sequence[Tensor]) -> Iterator[ImageBatch]:
        return (batch._replace(labels=None) for batch in self.source.batches(order))


def _counted(batches: Iterator[ImageBatch], count: int) -> Iterator[ImageBatch]:
    """Pass on batches of ``count`` images with a label for each or none, or raise."""
    found = 0
    for batch in batches:
        if batch.labels is not None and len(batch.labels) != len(batch.images):
            raise ShapeError(
                "as many labels as images in a batch",
                got=f"{len(batch.labels)} labels for {len(batch.images)} images",
                fix="Mark unlabeled images with -1.",
            )
        found += len(batch.images)
        yield batch
    if found != count:
        raise DataError(
            f"{count} images, the length of the source",
            got=found,
            fix="Correct its __len__, or the length=... of StreamImages.",
        )
