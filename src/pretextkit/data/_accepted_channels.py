"""Gray images beside RGB images, for modules that take one number of channels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

from torch import Tensor

from pretextkit.data._collate import (
    ImageBatch,
    in_color,
)
from pretextkit.data._sources import ImageSource, WrappedSource
from pretextkit.data._tensor_images import TensorImages
from pretextkit.errors import PretextkitError

__all__ = ["retry_in_color", "with_accepted_channels"]

T = TypeVar("T")

SCANNED_IMAGES = 4096
"""Images among which an RGB image is looked for, after a failure on gray images."""


class _InColor(WrappedSource):
    """A source whose gray images become RGB."""

    def batches(self, order: Sequence[Tensor]) -> Iterator[ImageBatch]:
        return map(in_color, self.source.batches(order))


def retry_in_color(work: Callable[[ImageSource], T], source: ImageSource) -> T:
    """Do work on a source; if it fails, and the source has gray images beside RGB images, repeat it with RGB alone.

    Only a failure on gray images reads the images again. A module that takes both kinds gets them as they are.

    Example:
        >>> from pretextkit.data import DatasetImages
        >>> images = [torch.zeros(1, 2, 2), torch.zeros(3, 2, 2)]
        >>> convolution = torch.nn.Conv2d(3, 1, 1)
        >>> def work(source):
        ...     return sum(len(convolution(batch.images)) for batch in source.in_order(1))
        >>> retry_in_color(work, DatasetImages(images))
        2
    """
    watched = _Watched(source)
    try:
        return work(watched)
    except Exception:
        if not (watched.channels == {1, 3} or (watched.channels == {1} and _has_color(source))):
            raise
    return work(_InColor(source))


def with_accepted_channels(source: ImageSource, accepts: Callable[[Tensor], bool]) -> ImageSource:
    """Return a source whose gray images become RGB if a module refuses them, and the source has RGB images too.

    As :func:`retry_in_color`, for work that cannot be repeated from its start.

    Args:
        source: The images.
        accepts: Whether the module takes images ``b 1 h w``; asked once, at the first batch of gray images.

    Example:
        >>> from pretextkit.data import DatasetImages
        >>> images = [torch.zeros(1, 2, 2), torch.zeros(3, 2, 2)]
        >>> source = with_accepted_channels(DatasetImages(images), lambda images: False)
        >>> [batch.images.shape[1] for batch in source.in_order(1)]
        [3, 3]
    """
    return source if isinstance(source, TensorImages) else _AcceptedChannels(source, accepts)


class _AcceptedChannels(WrappedSource):
    """A source whose gray images become RGB where a module refuses them."""

    def __init__(self, source: ImageSource, accepts: Callable[[Tensor], bool]) -> None:
        super().__init__(source)
        self.accepts = accepts
        self.takes_gray: bool | None = None
        self.has_color = False

    def batches(self, order: Sequence[Tensor]) -> Iterator[ImageBatch]:
        return map(self._convert, self.source.batches(order))

    def _convert(self, batch: ImageBatch) -> ImageBatch:
        if batch.images.shape[1] != 1:
            self.has_color = self.has_color or batch.images.shape[1] == 3
            return batch
        if self.takes_gray is None:
            self.takes_gray = self.accepts(batch.images)
        if self.takes_gray:
            return batch
        if not self.has_color and not self.source.decides_order:  # a loader or stream is being read already
            self.has_color = _has_color(self.source)
        return in_color(batch) if self.has_color else batch


class _Watched(WrappedSource):
    """A source that records the numbers of channels of its batches."""

    def __init__(self, source: ImageSource) -> None:
        super().__init__(source)
        self.channels: set[int] = set()

    def batches(self, order: Sequence[Tensor]) -> Iterator[ImageBatch]:
        return map(self._watch, self.source.batches(order))

    def _watch(self, batch: ImageBatch) -> ImageBatch:
        self.channels.add(batch.images.shape[1])
        return batch


def _has_color(source: ImageSource) -> bool:
    """Look for an RGB image among the first images of a source; False if the images cannot be read."""
    if isinstance(source, TensorImages):
        return False
    try:
        return any(batch.images.shape[1] == 3 for batch in islice(source.in_order(1), SCANNED_IMAGES))
    except PretextkitError:
        return False  # the first error is the one to report
