"""Segmentation probe: a small head on frozen feature maps, trained to classify pixels."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pretextkit._color import as_float
from pretextkit._evaluation_mode import evaluation_mode
from pretextkit._modules import module_device
from pretextkit._seeding import derived_generator, seeded
from pretextkit._starting_point import starting_point, starts_note
from pretextkit._validation import check_float, check_int, check_sequence, described
from pretextkit.data import LabeledLike
from pretextkit.data._segmentation import Segmented, as_segmented
from pretextkit.errors import DataError, OptionError, ShapeError
from pretextkit.evaluation._classes import match_masks
from pretextkit.evaluation._segmentation_heads import LinearMapHead, MapHead, fit_map_head, upsampled
from pretextkit.inference._capture import Layers, Model, Reader, capture_maps
from pretextkit.metrics._segmentation import segmentation_metrics
from pretextkit.training._hardware import Precision, forward_context

__all__ = ["SegmentationResult", "SegmentationScore", "segmentation_probe"]

LEARNING_RATES = (1e-3, 1e-2, 1e-1)


class SegmentationScore(NamedTuple):
    """Scores of the head on one layer."""

    miou: float
    """Mean intersection over union on test."""
    pixel_accuracy: float
    """Pixel accuracy on test."""
    validation: float
    """mIoU on the held-out images, by which layer and learning rate are chosen."""
    learning_rate: float
    """Chosen learning rate."""
    feature_dim: int
    """Channels ``d`` of the maps."""


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
    device = module_device(backbone)

    def fit_head(maps: Tensor, masks: Tensor, rate: float) -> nn.Module:
        with seeded(seed):
            module = _built_head(head, maps[:1].to(device).float(), classes)
        options = {"batch_size": batch_size, "pixels": pixels, "ignore_index": ignore_index, "seed": seed}
        fit_map_head(module, maps, masks, learning_rate=rate, steps=steps, **options)
        return module

    with _map_reader(backbone, layers, precision) as read:
        names = list(read(train_set.images[:1]))
    results: dict[str, tuple[SegmentationScore, nn.Module, Tensor, tuple[float, ...]]] = {}
    for name in names:
        with _map_reader(backbone, layers, precision) as read:
            fit_maps, heldout_maps = (_maps(read, name, part.images, batch_size, storage) for part in (fit, heldout))
        scores: dict[float, float] = {}
        for rate in rates:
            trial = fit_head(fit_maps, fit.masks, rate)
            predicted = _predict(trial, torch.split(heldout_maps, batch_size), heldout.masks)
            scores[rate] = segmentation_metrics(predicted, heldout.masks, classes, ignore_index=ignore_index).miou
        rate = max(scores, key=scores.__getitem__)
        masks = fit.masks
        if validation is None:  # the held-out images are part of train
            fit_maps, masks = torch.cat([fit_maps, heldout_maps]), torch.cat([masks, heldout.masks])
        final = fit_head(fit_maps, masks, rate)
        with _map_reader(backbone, layers, precision) as read:
            test_maps = (read(images)[name] for images in torch.split(test_set.images, batch_size))
            predictions = _predict(final, test_maps, test_set.masks)
        metrics = segmentation_metrics(predictions, test_set.masks, classes, ignore_index=ignore_index)
        score = SegmentationScore(metrics.miou, metrics.pixel_accuracy, scores[rate], rate, fit_maps.shape[1])
        results[name] = (score, final, predictions, metrics.class_iou)
    chosen = max(results, key=lambda name: results[name][0].validation)
    score, final, predictions, class_iou = results[chosen]
    return SegmentationResult(
        miou=score.miou,
        pixel_accuracy=score.pixel_accuracy,
        class_iou=class_iou,
        layer=chosen,
        layers={name: result[0] for name, result in results.items()},
        predictions=predictions,
        head=final.requires_grad_(False),
        seconds=time.monotonic() - start,
        starts_from=starting_point(backbone),
    )


def _built_head(head: MapHead, maps: Tensor, classes: int) -> nn.Module:
    """Build a head, and try it on one map."""
    module: object = head(maps.shape[1], classes)
    fix = f"Return a module from maps b {maps.shape[1]} h w to logits b {classes} h w."
    if not isinstance(module, nn.Module):
        raise OptionError("a module from head", got=described(module), fix=fix)
    module = module.float().to(maps.device)
    with evaluation_mode(module):
        try:
            logits = module(maps)
        except (RuntimeError, TypeError) as error:
            raise ShapeError(
                f"a head for maps b {maps.shape[1]} h w", got=f"a {type(module).__name__} that fails on them", fix=fix
            ) from error
    if not isinstance(logits, Tensor) or logits.ndim != 4 or logits.shape[:2] != (1, classes):
        raise ShapeError(f"logits b {classes} h w from the head", got=described(logits), fix=fix)
    return module


@contextmanager
def _map_reader(model: Model, layers: Layers, precision: Precision) -> Iterator[Reader]:
    device, autocast = forward_context(model, precision)
    with evaluation_mode(model), capture_maps(model, layers) as read:

        def read_images(images: Tensor) -> dict[str, Tensor]:
            with autocast:
                return read(as_float(images.to(device)))

        yield read_images


def _maps(read: Reader, name: str, images: Tensor, batch_size: int, storage: torch.dtype) -> Tensor:
    kept: Tensor | None = None
    for rows in torch.split(torch.arange(len(images)), batch_size):
        maps = read(images[rows])[name]
        if not maps.isfinite().all():
            raise DataError(f"finite features from layer {name!r}", got="NaN or inf", fix="Check the model's weights.")
        if kept is None:
            kept = torch.empty(len(images), *maps.shape[1:], dtype=storage)
        kept[rows] = maps.to("cpu", storage)
    assert kept is not None
    return kept


@torch.no_grad()
def _predict(head: nn.Module, maps: Iterable[Tensor], masks: Tensor) -> Tensor:
    """Classify the pixels of batches of maps, at the size and of the dtype of ``masks``."""
    device = next(head.parameters()).device
    size = (masks.shape[1], masks.shape[2])
    parts = [upsampled(head(chunk.to(device).float()), size).argmax(1).to(masks.dtype).cpu() for chunk in maps]
    return torch.cat(parts)


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
