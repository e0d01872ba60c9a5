"""Metrics of segmentation masks."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pretextkit._validation import check_int
from pretextkit._validation._label_advice import class_masks_fix, predictions_fix
from pretextkit.errors import DataError, ShapeError

__all__ = ["SegmentationMetrics", "segmentation_metrics"]

CHUNK = 1 << 22
"""Pixels per chunk."""


class SegmentationMetrics(NamedTuple):
    """Agreement of predicted masks with target masks."""

    miou: float
    """Mean of ``class_iou`` over the classes that are not NaN."""
    pixel_accuracy: float
    """Fraction of correctly classified pixels, without ignored pixels."""
    class_iou: tuple[float, ...]
    """Intersection over union of each class; NaN if ignored or in neither targets nor predictions."""


def segmentation_metrics(
    predictions: Tensor, targets: Tensor, classes: int, *, ignore_index: int = 255
) -> SegmentationMetrics:
    """Measure intersection over union and pixel accuracy of predicted masks.

    Pixels are counted over all images together, as in the Pascal VOC challenge. A class in neither targets nor
    predictions has no intersection over union and is left out of the mean.

    Args:
        predictions: Predicted masks ``n h w`` with classes 0 … ``classes`` - 1.
        targets: Target masks ``n h w`` with classes 0 … ``classes`` - 1, or ``ignore_index``.
        classes: Number of classes.
        ignore_index: Class of target pixels that are left out.

    Returns:
        Mean intersection over union, pixel accuracy, and the intersection over union of each class.

    Raises:
        ShapeError: The shapes of the masks differ.
        DataError: Every pixel is ignored, or a mask holds other values than classes.
        OptionError: ``classes`` is below 1.

    Example:
        >>> targets = torch.tensor([[[0, 0, 1, 255]]])
        >>> segmentation_metrics(torch.tensor([[[0, 1, 1, 0]]]), targets, 3)
        SegmentationMetrics(miou=0.5, pixel_accuracy=0.666..., class_iou=(0.5, 0.5, nan))
    """
    from torchmetrics.functional.classification import multiclass_confusion_matrix

    classes = check_int("classes", classes, fix="Count the background as one.")
    ignore_index = check_int("ignore_index", ignore_index, at_least=None, of=segmentation_metrics)
    if predictions.ndim != 3 or predictions.shape != targets.shape:
        raise ShapeError(
            "predictions and targets n h w of equal shape",
            got=f"{tuple(predictions.shape)} and {tuple(targets.shape)}",
            fix=predictions_fix(predictions, targets),
        )
    _check_classes(predictions, classes, "predictions")
    _check_classes(targets[targets != ignore_index], classes, f"targets that are not {ignore_index}")
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


def _check_classes(masks: Tensor, classes: int, what: str) -> None:
    if masks.is_floating_point() or masks.is_complex():
        raise DataError(f"integers as {what}", got=str(masks.dtype), fix=class_masks_fix(masks))
    if masks.numel() and not 0 <= int(masks.min()) <= int(masks.max()) < classes:
        raise DataError(
            f"{what} from 0 to {classes - 1}",
            got=f"{int(masks.min())} to {int(masks.max())}",
            fix="Check the number of classes and ignore_index.",
        )
