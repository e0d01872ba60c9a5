"""What images and labels must be before anything is computed from them."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pretextkit.errors import DataError, ShapeError

if TYPE_CHECKING:
    import numpy

__all__ = ["check_classes", "check_images", "check_labels"]

ROUNDING = 1e-4
"""How far outside [0, 1] a float image may be: what interpolation leaves, and no more."""

CHUNK = 1 << 24
"""Pixels looked at together, so that checking a memory-mapped tensor never reads it whole."""


def check_images(images: Tensor) -> None:
    """Refuse images that no function of pretextkit can use.

    Args:
        images: ``b c h w`` with 1 or 3 channels, uint8, or floating-point in [0, 1].

    Raises:
        ShapeError: The rank or the channels are wrong.
        DataError: There are no images, or they have another dtype, NaN or infinite pixels, or pixels outside [0, 1].

    Example:
        >>> check_images(torch.zeros(2, 3, 8, 8))
        >>> check_images(torch.tensor([0.0, 255.0]).view(2, 1, 1, 1))
        Traceback (most recent call last):
            ...
        pretextkit.errors.DataError: Expected float images in [0, 1], but got values from 0 to 255. Divide by 255.
    """
    if not isinstance(images, Tensor):
        raise DataError("a tensor of images b c h w", got=type(images).__name__, fix="Convert with torch.as_tensor.")
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise ShapeError(
            "images b c h w with 1 or 3 channels",
            got=f"shape {tuple(images.shape)}",
            fix=_shape_fix(tuple(images.shape)),
        )
    if images.numel() == 0:
        raise DataError(
            "at least one image with at least one pixel",
            got=f"shape {tuple(images.shape)}",
            fix="Check how the images were selected.",
        )
    if images.dtype == torch.uint8:
        return
    if not images.is_floating_point():
        raise DataError(
            "images of dtype uint8 (0 to 255) or floating-point (0 to 1)",
            got=str(images.dtype),
            fix="Convert with images.to(torch.uint8), or images.float() after scaling to [0, 1].",
        )
    _check_range(images)


def check_labels(labels: Any, count: int | None = None) -> Tensor:
    """Give labels as an int64 tensor, one for each image.

    Args:
        labels: A tensor, array or sequence of integers; -1 means unlabeled.
        count: How many images there are; any number by default.

    Returns:
        ``count``, int64.

    Raises:
        ShapeError: The labels are not one integer an image.
        DataError: The labels are not integers, or below -1.

    Example:
        >>> check_labels([0, 2, -1], count=3)
        tensor([ 0,  2, -1])
    """
    tensor = _integers(labels)
    if tensor.ndim != 1:
        column = tensor.ndim == 2 and tensor.shape[1] == 1
        raise ShapeError(
            "labels of shape (b,), one integer for each image",
            got=f"shape {tuple(tensor.shape)}",
            fix="Use labels[:, 0]." if column else "If they are one-hot, use labels.argmax(1).",
        )
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
            fix="Mark unlabeled images with -1.",
        )
    return tensor


def check_classes(labels: Tensor) -> int:
    """Count the classes of ``labels``, which unlabeled images (-1) do not change.

    Args:
        labels: ``b``, int64.

    Returns:
        ``k``, where the labels are 0 … ``k`` - 1 and each of them occurs.

    Raises:
        DataError: Nothing is labeled, there is one class only, or a class below the highest one is missing.

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
        some = bool((labels < 0).any())
        remap = "torch.unique(labels, return_inverse=True)[1]"
        if some:
            remap = "labels[labels >= 0] = torch.unique(labels[labels >= 0], return_inverse=True)[1]"
        raise DataError(
            f"labels 0 to {count - 1} for {count} classes",
            got=f"labels up to {classes[-1]} without {listed}",
            fix=f"Remap them with {remap}.",
        )
    return count


def tensor_from_array(array: numpy.ndarray[Any, Any]) -> Tensor:
    """Share an array's memory as a tensor, also a read-only (memory-mapped) one; copy only what torch cannot hold."""
    import numpy

    if not array.dtype.isnative or any(stride < 0 for stride in array.strides):
        array = numpy.ascontiguousarray(array, array.dtype.newbyteorder("="))
    with warnings.catch_warnings():
        # pretextkit writes to no image it is given, so that a read-only array is safe.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writ")
        try:
            return torch.from_numpy(array)
        except TypeError as error:
            raise DataError("an array of numbers", got=f"dtype {array.dtype}", fix="Convert it to uint8.") from error


def _integers(labels: Any) -> Tensor:
    import numpy

    try:
        tensor = tensor_from_array(labels) if isinstance(labels, numpy.ndarray) else torch.as_tensor(labels)
    except (TypeError, ValueError, RuntimeError) as error:
        got = f"dtype {labels.dtype}" if isinstance(labels, numpy.ndarray) else repr(labels)
        raise DataError("integer labels", got=got[:80], fix="Map every class to an integer from 0.") from error
    empty = tensor.ndim == 1 and tensor.numel() == 0  # an empty list makes a float tensor, and holds no float
    if (tensor.is_floating_point() or tensor.is_complex()) and not empty:
        raise DataError("integer labels", got=str(tensor.dtype), fix="Convert with labels.long() if they are classes.")
    return tensor.long()


def _shape_fix(shape: tuple[int, ...]) -> str:
    if len(shape) == 4 and shape[3] in (1, 3):
        return "Put channels second: images.permute(0, 3, 1, 2)."
    if len(shape) == 4 and shape[1] == 4:
        return "Drop the alpha channel: images[:, :3]."
    if len(shape) == 3:
        return "Add the missing axis: images[None] for one image, images[:, None] for gray images."
    return "Pass gray (c = 1) or RGB (c = 3) images with channels second."


def _check_range(images: Tensor) -> None:
    step = max(1, CHUNK // images[0].numel())
    low, high = float("inf"), float("-inf")
    for start in range(0, len(images), step):
        chunk = images[start : start + step]
        # aminmax lets NaN through, so that one pass finds everything.
        chunk_low, chunk_high = (float(value) for value in torch.aminmax(chunk.detach()))
        if not (abs(chunk_low) < float("inf") and abs(chunk_high) < float("inf")):
            bad = ~torch.isfinite(chunk).flatten(1).all(1)
            kind = "NaN" if bool(torch.isnan(chunk).any()) else "infinite"
            raise DataError(
                "finite pixels",
                got=f"{kind} pixels, first in image {start + int(bad.nonzero()[0])}",
                fix="Drop or repair such images.",
            )
        low, high = min(low, chunk_low), max(high, chunk_high)
    if low < -ROUNDING or high > 1 + ROUNDING:
        if low > -0.25 and high < 1.25:
            fix = "Clamp what a transform overshot (images.clamp(0, 1)), or undo a normalization."
        elif low < -ROUNDING:
            fix = "Undo their normalization (images * std + mean): a backbone normalizes by itself."
        else:
            fix = "Divide by 255." if high <= 255 else "Divide by the highest value of their format."
        raise DataError("float images in [0, 1]", got=f"values from {low:.4g} to {high:.4g}", fix=fix)
