"""Checks of labels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pretextkit._validation._arrays import tensor_from_array
from pretextkit._validation._label_advice import classes_fix, integers_fix
from pretextkit.errors import DataError, ShapeError

TEXT_FIX = (
    "Pass texts for the full set, (images, labels), or map them: names = sorted(set(train_labels)), then "
    "[names.index(label) for label in labels] with the same names for every part."
)

__all__ = ["check_classes", "check_classes_seen", "check_labels"]


def check_labels(labels: Any, count: int | None = None) -> Tensor:
    """Convert labels to an int64 tensor, and check them.

    Args:
        labels: A tensor, array or sequence of integers ``b`` or ``b 1``, or one-hot rows ``b k``; -1 means unlabeled.
        count: Number of images; None (the default) allows any number of labels.

    Returns:
        ``count``, int64.

    Raises:
        ShapeError: There is not exactly one label per image; several labels per image are not supported.
        DataError: A label is not an integer, or is below -1.

    Example:
        >>> check_labels([0, 2, -1], count=3)
        tensor([ 0,  2, -1])
    """
    tensor = _one_each(_integers(labels))
    if count is not None and len(tensor) != count:
        raise ShapeError(
            "as many labels as images",
            got=f"{len(tensor)} labels for {count} images",
            fix="Pass one label for each image.",
        )
    if len(tensor) and int(tensor.min()) < -1:
        raise DataError(
            "labels from 0 up, or -1 for unlabeled images",
            got=int(tensor.min()),
            fix="Mark unlabeled images with -1: labels.clamp(min=-1).",
        )
    return tensor


def check_classes(labels: Tensor) -> int:
    """Count the classes of labels, ignoring unlabeled images (-1), and check that none is missing.

    Args:
        labels: ``b``, int64.

    Returns:
        Number of classes ``k``; each of the labels 0 to ``k - 1`` occurs.

    Raises:
        DataError: No image is labeled, there is only one class, or a label below the highest one does not occur.

    Example:
        >>> check_classes(torch.tensor([0, 1, 1, -1, 2]))
        3
    """
    classes = torch.unique(labels[labels >= 0]).tolist()
    if not classes:
        raise DataError("labeled images", got="labels that are all -1", fix="Label at least one image of each class.")
    if len(classes) == 1:
        raise DataError("at least 2 classes", got=f"class {classes[0]} only", fix="Add images of another class.")
    count = len(classes)
    if classes[-1] != count - 1:
        missing = [label for label in range(min(classes[-1], 1000)) if label not in set(classes)]
        listed = ", ".join(map(str, missing[:5])) + (", …" if len(missing) > 5 else "")
        raise DataError(
            f"labels 0 to {count - 1} for {count} classes",
            got=f"labels up to {classes[-1]} without {listed}",
            fix=classes_fix(labels),
        )
    return count


def check_classes_seen(labels: Tensor, classes: int, what: str = "test") -> None:
    """Check that every label is a class of the training images.

    Raises:
        DataError: A label is ``classes`` or more.
    """
    if int(labels.max()) >= classes:
        raise DataError(
            f"{what} labels 0 to {classes - 1}, the classes of train",
            got=f"label {int(labels.max())}",
            fix="Give train at least one image of every class.",
        )


def _one_each(labels: Tensor) -> Tensor:
    """Reduce labels ``b 1`` and one-hot rows ``b k`` to ``b``; refuse other matrices.

    Rows are one-hot if they hold 0 and 1 only, and a single 1 each.
    """
    if labels.ndim == 2 and labels.shape[1] == 1:
        return labels[:, 0]
    if labels.ndim == 2 and labels.shape[1] > 1:
        ones = labels == 1
        if len(labels) and bool((ones | (labels == 0)).all()) and bool((ones.sum(1) == 1).all()):
            return ones.int().argmax(1)
        raise ShapeError(
            "one label for each image, because several labels an image (multi-label) are not supported",
            got=f"shape {tuple(labels.shape)}, which is not one-hot",
            fix="Pass one column, such as labels[:, 0].",
        )
    if labels.ndim != 1:
        masks = labels.ndim > 2
        raise ShapeError(
            "labels of shape (b,), one integer for each image",
            got=f"shape {tuple(labels.shape)}",
            fix="Use segmentation_probe for a class per pixel." if masks else "Pass a list of labels.",
        )
    return labels


def _integers(labels: Any) -> Tensor:
    import numpy

    try:
        tensor = tensor_from_array(labels) if isinstance(labels, numpy.ndarray) else torch.as_tensor(labels)
    except (TypeError, ValueError, RuntimeError, DataError) as error:
        got = f"dtype {labels.dtype}" if isinstance(labels, numpy.ndarray) else repr(labels)
        got = got if len(got) <= 80 else f"{got[:80].rpartition(',')[0] or got[:80]}, …"
        raise DataError("integer labels", got=got, fix=TEXT_FIX) from error
    empty = tensor.ndim == 1 and tensor.numel() == 0  # torch converts an empty list to a float tensor
    if tensor.is_floating_point() and tensor.ndim == 2 and bool(((tensor == 0) | (tensor == 1)).all()):
        return tensor.long()  # perhaps one-hot
    if (tensor.is_floating_point() or tensor.is_complex()) and not empty:
        raise DataError("integer labels", got=str(tensor.dtype), fix=integers_fix(tensor, "labels"))
    return tensor.long()
