"""How well predicted masks match true ones."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pretextkit._validation import check_int
from pretextkit.errors import DataError, ShapeError

__all__ = ["SegmentationMetrics", "segmentation_metrics"]

CHUNK = 1 << 22
"""Pixels counted at once."""


class SegmentationMetrics(NamedTuple):
    """How well predicted masks match true ones."""

    miou: float
    """Mean of ``class_iou`` over the classes that are not NaN."""
    pixel_accuracy: float
    """Share of the pixels that are not ignored whose class is right."""
    class_iou: tuple[float, ...]
    """Each class's intersection over union; NaN where it is in neither truth nor predictions, or is the ignored one."""


def segmentation_metrics(
    predictions: Tensor, targets: Tensor, classes: int, *, ignore_index: int = 255
) -> SegmentationMetrics:
    """Compare predicted masks with true ones.

    Pixels are counted over all images together, as the Pascal VOC does it. A class that is in neither truth nor
    predictions has no intersection over union, and no part in the mean: it counts neither as 0 nor as 1.

    Args:
        predictions: ``n h w``, classes 0 … ``classes`` - 1.
        targets: ``n h w``, likewise, or ``ignore_index``.
        classes: How many there are.
        ignore_index: Pixels that truly have it are not looked at.

    Raises:
        ShapeError: The masks differ in shape.
        DataError: Every pixel is ignored, or a mask holds something else than classes.
        OptionError: There is no class.

    Example:
        >>> truth = torch.tensor([[[0, 0, 1, 255]]])
        >>> segmentation_metrics(torch.tensor([[[0, 1, 1, 0]]]), truth, 3)
        SegmentationMetrics(miou=0.5, pixel_accuracy=0.666..., class_iou=(0.5, 0.5, nan))
    """
    from torchmetrics.functional.classification import multiclass_confusion_matrix

    classes = check_int("classes", classes, fix="Count the background as one.")
    ignore_index = check_int("ignore_index", ignore_index, at_least=None, of=segmentation_metrics)
    if predictions.ndim != 3 or predictions.shape != targets.shape:
        raise ShapeError(
            "predictions and targets n h w of one shape",
            got=f"{tuple(predictions.shape)} and {tuple(targets.shape)}",
            fix="Scale the logits up to the masks before taking their highest.",
        )
    _require_classes(predictions, classes, "predictions")
    _require_classes(targets[targets != ignore_index], classes, f"targets that are not {ignore_index}")
    counts = torch.zeros(classes, classes, dtype=torch.int64)
    chunks = (torch.split(masks.flatten(), CHUNK) for masks in (predictions, targets))
    for predicted, true in zip(*chunks, strict=True):
        counts += multiclass_confusion_matrix(
            predicted.long().cpu(), true.long().cpu(), classes, ignore_index=ignore_index, validate_args=False
        )
    if not counts.any():
        raise DataError("pixels with a class", got="masks that are all ignored", fix=f"Check {ignore_index=}.")
    hits = counts.diagonal().double()
    union = (counts.sum(0) + counts.sum(1)).double() - hits
    iou = hits / union  # 0 / 0 is NaN
    if 0 <= ignore_index < classes:
        iou[ignore_index] = torch.nan
    return SegmentationMetrics(iou.nanmean().item(), (hits.sum() / counts.sum()).item(), tuple(iou.tolist()))


def _require_classes(masks: Tensor, classes: int, what: str) -> None:
    if masks.is_floating_point() or masks.is_complex():
        raise DataError(
            f"whole numbers as {what}", got=str(masks.dtype), fix="Take argmax(1), or convert with .long()."
        )
    if masks.numel() and not 0 <= int(masks.min()) <= int(masks.max()) < classes:
        raise DataError(
            f"{what} from 0 to {classes - 1}",
            got=f"{int(masks.min())} to {int(masks.max())}",
            fix="Check the number of classes and ignore_index.",
        )
