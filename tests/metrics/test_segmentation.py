from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from pretextkit.errors import DataError, ShapeError
from pretextkit.functional import segmentation_metrics


def naive_metrics(predictions: Tensor, targets: Tensor, classes: int, ignored: int) -> tuple[float, float, list[float]]:
    pairs = [(p, t) for p, t in zip(predictions.flatten().tolist(), targets.flatten().tolist(), strict=True)]
    pairs = [(p, t) for p, t in pairs if t != ignored]
    ious = []
    for k in range(classes):
        both = sum(p == k and t == k for p, t in pairs)
        either = sum(p == k or t == k for p, t in pairs)
        ious.append(both / either if either else math.nan)
    defined = [iou for iou in ious if not math.isnan(iou)]
    return sum(defined) / len(defined), sum(p == t for p, t in pairs) / len(pairs), ious


@pytest.mark.parametrize("seed", range(5))
def test_metrics_equal_a_loop_over_pixels(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    predictions = torch.randint(4, (3, 5, 7), generator=generator)
    targets = torch.randint(4, (3, 5, 7), generator=generator)
    targets[torch.rand(targets.shape, generator=generator) < 0.2] = 255
    metrics = segmentation_metrics(predictions.byte(), targets.byte(), 6)  # classes 4 and 5 do not occur
    miou, accuracy, ious = naive_metrics(predictions, targets, 6, 255)
    assert metrics.miou == pytest.approx(miou)
    assert metrics.pixel_accuracy == pytest.approx(accuracy)
    assert metrics.class_iou == pytest.approx(ious, nan_ok=True)
    assert all(math.isnan(iou) for iou in metrics.class_iou[4:])


def test_class_only_in_predictions_has_iou_zero() -> None:
    metrics = segmentation_metrics(torch.tensor([[[0, 0, 1, 2]]]), torch.tensor([[[0, 0, 1, 1]]]), 4)
    assert metrics.class_iou[:3] == (1.0, 0.5, 0.0)
    assert metrics.miou == pytest.approx(0.5)


@pytest.mark.parametrize("ignored", [-1, 0, 255])
def test_predictions_on_ignored_pixels_change_nothing(ignored: int) -> None:
    targets = torch.tensor([[[1, 2, ignored, 2, ignored]]])
    first = segmentation_metrics(torch.tensor([[[1, 2, 1, 1, 2]]]), targets, 3, ignore_index=ignored)
    second = segmentation_metrics(torch.tensor([[[1, 2, 0, 1, 0]]]), targets, 3, ignore_index=ignored)
    assert first.class_iou == pytest.approx(second.class_iou, nan_ok=True)
    assert first.miou == second.miou == 0.5
    assert first.pixel_accuracy == second.pixel_accuracy == pytest.approx(2 / 3)
    assert math.isnan(first.class_iou[0])


def test_metrics_refuse_incompatible_masks() -> None:
    masks = torch.zeros(1, 2, 2, dtype=torch.int64)
    with pytest.raises(ShapeError, match=r"of equal shape, but got \(1, 2, 2\) and \(2, 2\)\. Upsample the"):
        segmentation_metrics(masks, masks[0], 2)
    with pytest.raises(
        DataError, match=r"pixels with a class, but got masks that are all ignored\. Check ignore_index=0"
    ):
        segmentation_metrics(masks, masks, 2, ignore_index=0)
