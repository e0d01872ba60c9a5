"""Checks and selection of labeled images."""

from __future__ import annotations

import torch
from torch import Tensor

from pretextkit.data import LabeledLike, as_source
from pretextkit.data._collate import ImageBatch, concat
from pretextkit.data._tensor_images import TensorImages
from pretextkit.errors import DataError

__all__ = ["labeled_images", "labeled_part", "labeled_rows", "require_labels"]


def labeled_rows(labels: Tensor | None, what: str) -> Tensor:
    """Return the row numbers of labeled images.

    Args:
        labels: ``n``, int64, -1 for unlabeled; None without labels.
        what: Name of the data in the error, such as ``train``.

    Returns:
        ``m``, int64, ascending.

    Raises:
        DataError: There are no labels.

    Example:
        >>> labeled_rows(torch.tensor([2, -1, 0]), "train")
        tensor([0, 2])
    """
    rows = torch.empty(0, dtype=torch.int64) if labels is None else torch.nonzero(labels >= 0)[:, 0]
    if not len(rows):
        raise DataError(
            f"labels for {what}",
            got="none" if labels is None else "labels that are all -1",
            fix=("" if labels is None else "Label some images of each class. ")
            + "Pass a pair (images, labels), or a Dataset of (image, label). "
            'For files, pass FolderImages(root, labels="labels.csv").',
        )
    return rows


def labeled_images(data: LabeledLike, what: str, workers: int = 0) -> tuple[TensorImages, Tensor]:
    """Read the labeled images of ``data`` into memory.

    Returns:
        Images with their labels, and the labels ``n`` again.

    Raises:
        DataError: There are no labels.

    Example:
        >>> labeled_images((torch.rand(3, 1, 8, 8), torch.tensor([2, -1, 0])), "train")[1]
        tensor([2, 0])
    """
    parts, labeled = [], False
    source = as_source(data, workers=workers)
    for batch in source.in_order(256):
        labeled = labeled or batch.labels is not None
        if part := labeled_part(batch):
            parts.append(part)
    if not parts:
        labeled_rows(torch.full((1,), -1) if labeled else None, what)
    images, targets = concat(parts)
    assert targets is not None
    assert len(targets) == len(images)
    return TensorImages(images, targets, class_names=source.class_names), targets


def require_labels(data: LabeledLike, what: str) -> None:
    """Check that a labeled image exists, and read no more images than that takes.

    Raises:
        DataError: There is none.

    Example:
        >>> require_labels((torch.rand(3, 1, 8, 8), torch.tensor([2, -1, 0])), "train")
    """
    labels: Tensor | None = None
    for batch in as_source(data).in_order(256):
        if labeled_part(batch):
            return
        labels = batch.labels if labels is None else labels
    labeled_rows(labels, what)


def labeled_part(batch: ImageBatch) -> ImageBatch | None:
    """Select the labeled images of a batch; None if there are none."""
    if batch.labels is None:
        return None
    keep = batch.labels >= 0
    if bool(keep.all()):
        return batch
    return ImageBatch(batch.images[keep], batch.labels[keep]) if bool(keep.any()) else None
