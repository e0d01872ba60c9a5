"""Anomaly scores: the common result type, and batches of images to score."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pretextkit._display import Displayed
from pretextkit._validation import check_int
from pretextkit.data import ImagesLike, as_source
from pretextkit.data._as_source import read_files
from pretextkit.data._image_files import find_files
from pretextkit.data._types import OnError, Size
from pretextkit.inference._predictions import write_csv
from pretextkit.metrics._detection import check_scores

__all__ = ["AnomalyScores", "check_scores", "files_of", "full_images", "image_batches"]


@dataclass(frozen=True, repr=False)
class AnomalyScores(Displayed):
    """Anomaly scores of images, with a map for each image if the method localizes anomalies.

    Example:
        >>> found = AnomalyScores(torch.tensor([0.1, 0.9]), files=("a.png", "b.png"))
        >>> found.rows[0]["file"]
        'b.png'
    """

    scores: Tensor
    """``n``, higher is more anomalous."""
    maps: Tensor | None = field(default=None, repr=False)
    """``n h w``, the score of each pixel; None if the method does not localize anomalies."""
    files: tuple[str, ...] = field(default=(), repr=False)
    """File of each image; empty for images without files."""
    measure: str = "anomaly score"
    """What a score is, such as ``cosine distance to the nearest normal image``."""
    by: str = field(default="", repr=False)
    """Name of the function that scored; empty for scores from elsewhere."""

    @property
    def rows(self) -> list[dict[str, str | float]]:
        """One row for each image, ``file`` and ``score``, the most anomalous first; a number in place of no file."""
        names = self.files or tuple(map(str, range(len(self.scores))))
        order = self.scores.argsort(descending=True, stable=True).tolist()
        return [{"file": names[row], "score": round(self.scores[row].item(), 6)} for row in order]

    def to_csv(self, path: str | Path) -> None:
        """Write the rows to a CSV file with a header."""
        write_csv(path, ("file", "score"), self.rows)

    def display_table(self) -> list[list[str]]:
        """Return the most anomalous images, by file or number."""
        return [["Image", "Score"], *([f"{row['file']}", f"{row['score']:.4g}"] for row in self.rows[:10])]

    def __str__(self) -> str:
        low, middle, high = self.scores.quantile(self.scores.new_tensor([0.0, 0.5, 1.0])).tolist()
        return f"{len(self.scores)} anomaly scores from {low:.4g} to {high:.4g}, median {middle:.4g}"


def full_images(*many: ImagesLike, size: Size | None = None, on_error: OnError = "raise") -> list[ImagesLike]:
    """Read paths with ``fit="pad"``, because an anomaly may lie near an edge; give other images as they are.

    Example:
        >>> [images.shape for images in full_images(torch.rand(5, 1, 8, 8))]
        [torch.Size([5, 1, 8, 8])]
    """
    return read_files(many, size, on_error, fit="pad")


def files_of(images: Any) -> tuple[str, ...]:
    """Find the files of images that :func:`full_images` gave; empty where images have no files.

    Example:
        >>> files_of(["a.png", "b.png"]), files_of(torch.rand(2, 1, 8, 8))
        (('a.png', 'b.png'), ())
    """
    if isinstance(images, list | tuple) and all(isinstance(each, str | Path) for each in images):
        return tuple(map(str, images))
    return find_files(images) or ()


def image_batches(
    images: ImagesLike, batch_size: int, device: torch.device, *, of: Callable[..., Any]
) -> Iterator[Tensor]:
    """Read images in order, as batches of float ``b c h w`` in [0, 1] on a device.

    Args:
        images: Images from any source; labels are dropped.
        batch_size: Images per batch; the last batch may be smaller.
        device: Device of the batches.
        of: The public function that has the option ``batch_size``: the error names its default.

    Raises:
        OptionError: ``batch_size`` is below 1.
        DataError: The images cannot be read or are out of range.
        ShapeError: The images are not ``n c h w``.

    Example:
        >>> [batch.shape[0] for batch in image_batches(torch.rand(5, 1, 8, 8), 2, torch.device("cpu"), of=print)]
        [2, 2, 1]
    """
    batch_size = check_int("batch_size", batch_size, of=of)
    source = as_source(images).without_labels()
    for batch in source.in_order(batch_size):
        inputs = batch.images.to(device)
        yield inputs if inputs.is_floating_point() else inputs.float() / 255
