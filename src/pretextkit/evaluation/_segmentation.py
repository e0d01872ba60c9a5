"""Segmentation probe: a small head on frozen feature maps, trained to classify pixels."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from pretextkit._seeding import derived_generator
from pretextkit._starting_point import starting_point, starts_note
from pretextkit._validation import check_float, check_int, check_sequence
from pretextkit.data import LabeledLike
from pretextkit.data._segmentation import Segmented, as_segmented
from pretextkit.errors import DataError
from pretextkit.evaluation._classes import match_masks
from pretextkit.evaluation._map_probe import HeadFit, MapSource, ProbeImages, SegmentationScore, probe_layer
from pretextkit.evaluation._segmentation_heads import LinearMapHead, MapHead
from pretextkit.inference._capture import Layers, Model
from pretextkit.training._hardware import Precision

__all__ = ["SegmentationResult", "SegmentationScore", "segmentation_probe"]

LEARNING_RATES = (1e-3, 1e-2, 1e-1)


@dataclass(frozen=True)
class SegmentationResult:
    """Result of a segmentation probe."""

    miou: float
    """Mean intersection over union on test of the chosen layer."""
    pixel_accuracy: float
    """Pixel accuracy on test of the chosen layer."""
    class_iou: tuple[float, ...]
    """Intersection over union of each class; NaN for a class in neither targets nor predictions."""
    layer: str
    """Layer with the best score on held-out training images."""
    layers: Mapping[str, SegmentationScore]
    """Layer name to scores, for every probed layer."""
    predictions: Tensor = field(repr=False)
    """Predicted test masks ``n h w`` of the chosen layer, of the dtype of the masks."""
    head: nn.Module = field(repr=False)
    """Head of the chosen layer, from maps to logits."""
    seconds: float = field(repr=False)
    """Wall-clock time in seconds, extraction included."""
    starts_from: str | None = None
    """Where the weights of the backbone come from, if they were trained before; None for random weights."""

    def __str__(self) -> str:
        rows = ", ".join(f"{name} {score.miou:.1%}" for name, score in self.layers.items())
        scores = f"mIoU {self.miou:.1%}, pixel accuracy {self.pixel_accuracy:.1%}"
        return f"segmentation probe: {scores} at {self.layer} (mIoU {rows}){starts_note(self.starts_from)}"


def segmentation_probe(
    backbone: Model,
    train: LabeledLike,
    test: LabeledLike,
    *,
    validation: LabeledLike | None = None,
    head: MapHead = LinearMapHead,
    layers: Layers = "last",
    ignore_index: int = 255,
    learning_rates: Sequence[float] = LEARNING_RATES,
    steps: int = 300,
    batch_size: int = 16,
    pixels: int = 1024,
    precision: Precision = "auto",
    storage: torch.dtype = torch.float32,
    seed: int = 0,
) -> SegmentationResult:
    """Fit a small head on frozen feature maps to classify pixels, and score it on test.

    The logits of the head are upsampled to the masks. The learning rate, and the layer if there are several, are chosen
    on held-out *training* images. The head is then fitted again to all of train, and test is used once. The backbone
    does not change.

    The maps of train are computed once for each layer and kept in memory, one layer at a time: 367 maps of 256x30x40
    take 450 MB in float32, and half of it in bfloat16. The maps of test are not kept.

    Args:
        backbone: Module or function from images to maps; for inner layers, a module.
        train: Pair of images ``n c h w`` (uint8 or float in [0, 1], of any size, square or not) and integer masks
            ``n h w`` with classes 0…k-1 or ``ignore_index``. k is one more than the highest class of train.
        test: Test images with masks, as a pair like ``train``.
        validation: Images with masks on which layer and learning rate are chosen, as a pair like ``train``; a fifth of
            train by default.
        head: :class:`LinearMapHead`, :class:`ConvMapHead`, or a function from the number of channels and the number of
            classes to a module.
        layers: ``"last"`` map, ``"all"`` stages, or names of layers; see :func:`extract_features`.
        ignore_index: Class of pixels that are left out of the loss and of the scores.
        learning_rates: Learning rates of AdamW to choose from.
        steps: Optimizer steps of each fit.
        batch_size: Images per step and per forward pass.
        pixels: Random pixels of each image in the loss of a step.
        precision: Precision of the extraction.
        storage: Dtype of the maps in memory.
        seed: Seed of the split, the initial weights of the head and the pixels.

    Returns:
        mIoU, pixel accuracy, the IoU of each class and the predicted masks.

    Raises:
        ShapeError: Masks do not fit their images, or a layer returns no maps.
        DataError: Masks hold other values, one class only, or test classes missing from train.
        OptionError: An option is out of range.
        UnknownNameError: The model has no layer of that name.

    Example:
        >>> masks = torch.zeros(6, 8, 8, dtype=torch.int64)
        >>> masks[:, :, 4:] = 1
        >>> data = (masks[:, None].float(), masks)  # one channel, equal to the mask
        >>> segmentation_probe(torch.nn.Identity(), data, data, steps=60).miou
        1.0
    """
    fix = "For example (1e-3, 1e-2)."
    rates = [
        check_float("learning_rates", each, "(0, inf)", fix=fix)
        for each in check_sequence("learning_rates", learning_rates, fix=fix)
    ]
    steps = check_int("steps", steps, of=segmentation_probe)
    batch_size = check_int("batch_size", batch_size, of=segmentation_probe)
    pixels = check_int("pixels", pixels, of=segmentation_probe)
    ignore_index = check_int("ignore_index", ignore_index, at_least=None, of=segmentation_probe)
    seed = check_int("seed", seed, at_least=None, of=segmentation_probe)
    start = time.monotonic()
    test = match_masks(train, test, ignore_index, "test")
    validation = None if validation is None else match_masks(train, validation, ignore_index, "validation")
    train_set, test_set = as_segmented(train, "train"), as_segmented(test, "test")
    classes = _count_classes(train_set.masks, ignore_index)
    fit, heldout = _split(train_set, validation, seed)
    for part, what in ((train_set, "train"), (test_set, "test"), (heldout, "validation")):
        _check_classes_seen(part.masks, what, classes, ignore_index)
    images = ProbeImages(fit, heldout, test_set, whole=validation is None)
    maps = MapSource(backbone, layers, precision, batch_size, storage)
    fitting = HeadFit(head, classes, rates, steps, batch_size, pixels, ignore_index, seed)
    results = {name: probe_layer(name, maps, images, fitting) for name in maps.names(train_set.images[:1])}
    chosen = max(results, key=lambda name: results[name].score.validation)
    best = results[chosen]
    return SegmentationResult(
        miou=best.score.miou,
        pixel_accuracy=best.score.pixel_accuracy,
        class_iou=best.class_iou,
        layer=chosen,
        layers={name: result.score for name, result in results.items()},
        predictions=best.predictions,
        head=best.head.requires_grad_(False),
        seconds=time.monotonic() - start,
        starts_from=starting_point(backbone),
    )


def _split(train: Segmented, validation: LabeledLike | None, seed: int) -> tuple[Segmented, Segmented]:
    if validation is not None:
        return train, as_segmented(validation, "validation")
    count = len(train.images) // 5
    if not count:
        raise DataError(
            "at least 5 training images, to hold out a fifth", got=len(train.images), fix="Pass validation."
        )
    order = torch.randperm(len(train.images), generator=derived_generator(seed, "split"))
    heldout, fit = order[:count], order[count:]
    return Segmented(*(part[fit] for part in train)), Segmented(*(part[heldout] for part in train))


def _count_classes(masks: Tensor, ignore_index: int) -> int:
    present = torch.unique(masks)
    present = present[present != ignore_index]
    if len(present) < 2:
        got = f"class {int(present[0])} only" if len(present) else "pixels that are all ignored"
        raise DataError("at least 2 classes in the masks of train", got=got, fix=f"Check {ignore_index=}.")
    return int(present.max()) + 1


def _check_classes_seen(masks: Tensor, what: str, classes: int, ignore_index: int) -> None:
    wrong = [label for label in torch.unique(masks).tolist() if label != ignore_index and not 0 <= label < classes]
    if wrong:
        raise DataError(
            f"{what} masks of classes 0 to {classes - 1}, the classes of train, or {ignore_index} (ignored)",
            got=f"class {wrong[0]}",
            fix="Set ignore_index, or give train at least one pixel of every class.",
        )
