"""The segmentation probe: how much of the classes of pixels can a small head read off frozen feature maps?"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pretextkit._color import as_float
from pretextkit._evaluation_mode import evaluation_mode, module_device
from pretextkit._seeding import derived_generator, seeded
from pretextkit._validation import check_float, check_int, check_sequence
from pretextkit.data._segmentation import Segmented, as_segmented
from pretextkit.errors import DataError
from pretextkit.evaluation._features import Layers, Model
from pretextkit.evaluation._maps import capture_maps
from pretextkit.evaluation._segmentation_heads import LinearMapHead, MapHead, fit_map_head, upsampled
from pretextkit.metrics._segmentation import segmentation_metrics
from pretextkit.training._hardware import Precision, resolve_precision

__all__ = ["SegmentationResult", "SegmentationScore", "segmentation_probe"]

LEARNING_RATES = (1e-3, 1e-2, 1e-1)

Read = Callable[[Tensor], dict[str, Tensor]]


class SegmentationScore(NamedTuple):
    """How well a head reads one layer."""

    miou: float
    """On test."""
    pixel_accuracy: float
    """On test."""
    validation: float
    """mIoU on the held-out images by which layer and learning rate were chosen."""
    learning_rate: float
    """The chosen one."""
    feature_dim: int
    """``d``."""


@dataclass(frozen=True)
class SegmentationResult:
    """What a segmentation probe found."""

    miou: float
    """Mean intersection over union on test, of the layer that was best on held-out training images."""
    pixel_accuracy: float
    """Of the same."""
    class_iou: tuple[float, ...]
    """Of each class; NaN where it is in neither truth nor predictions."""
    layer: str
    """That layer."""
    layers: Mapping[str, SegmentationScore]
    """Every layer that was probed."""
    predictions: Tensor = field(repr=False)
    """``n h w``, the classes of test pixels as that layer's head sees them, of the masks' dtype."""
    head: nn.Module = field(repr=False)
    """That layer's head, from maps to logits."""
    seconds: float = field(repr=False)
    """Extraction included."""

    def __str__(self) -> str:
        rows = ", ".join(f"{name} {score.miou:.1%}" for name, score in self.layers.items())
        scores = f"mIoU {self.miou:.1%}, pixel accuracy {self.pixel_accuracy:.1%}"
        return f"segmentation probe: {scores} at {self.layer} (mIoU {rows})"


def segmentation_probe(
    backbone: Model,
    train: Any,
    test: Any,
    *,
    validation: Any = None,
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
    """Fit a small head on frozen feature maps to the classes of pixels, and score it on test.

    The head's logits are scaled up to the masks. The learning rate, and the layer if there are several, are chosen on
    held-out *training* images; then the head is fitted anew to all of train, and test is looked at once. Nothing about
    the backbone changes.

    Maps of train are made once for each layer, one layer at a time, and kept in memory as ``storage``: 367 of 256x30x40
    take 450 MB in float32 and half of it in bfloat16. Those of test are not kept.

    Args:
        backbone: Any module or function from images to maps; for inner layers, a module.
        train: Pair of images ``n c h w`` (uint8 or float in [0, 1], of any size, square or not) and masks ``n h w`` of
            integers: classes 0…k-1, or ``ignore_index``. k is one more than train's highest.
        test: Likewise.
        validation: Likewise; without it, a fifth of train.
        head: :class:`LinearMapHead`, :class:`ConvMapHead`, or any function from the maps' channels and the number of
            classes to a module.
        layers: ``"last"`` map, ``"all"`` stages, or names of layers; see :func:`extract_features`.
        ignore_index: Pixels that have it play no part in fitting or scores.
        learning_rates: AdamW's, to choose from.
        steps: Of each fit.
        batch_size: Images a step, and at a time elsewhere.
        pixels: Random pixels that a step looks at in each image.
        precision: Of the extraction.
        storage: Dtype of the maps in memory.
        seed: Of the split, the head's first weights and the pixels.

    Returns:
        mIoU, pixel accuracy, each class's IoU and the predicted masks.

    Raises:
        ShapeError: Masks do not fit their images, or a layer gives no maps.
        DataError: Masks hold something else, one class only, or test classes that train has not.
        OptionError: An option is out of range.
        UnknownNameError: The model has no layer of that name.

    Example:
        >>> masks = torch.zeros(6, 8, 8, dtype=torch.int64)
        >>> masks[:, :, 4:] = 1
        >>> data = (masks[:, None].float(), masks)  # one channel, which is the truth
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
    begun = time.monotonic()
    known, asked = (as_segmented(part, what) for part, what in ((train, "train"), (test, "test")))
    classes = _classes(known.masks, ignore_index)
    fit, held = _split(known, validation, seed)
    for part, what in ((known, "train"), (asked, "test"), (held, "validation")):
        _check_known(part.masks, what, classes, ignore_index)
    device = module_device(backbone)

    def reading() -> AbstractContextManager[Read]:
        return _reading(backbone, layers, precision)

    def fitted(maps: Tensor, masks: Tensor, rate: float) -> nn.Module:
        with seeded(seed):
            made = head(maps.shape[1], classes).to(device)
        options = {"batch_size": batch_size, "pixels": pixels, "ignore_index": ignore_index, "seed": seed}
        fit_map_head(made, maps, masks, learning_rate=rate, steps=steps, **options)
        return made

    with reading() as read:
        names = list(read(known.images[:1]))
    best: dict[str, tuple[SegmentationScore, nn.Module, Tensor, tuple[float, ...]]] = {}
    for name in names:
        with reading() as read:
            fit_maps, held_maps = (_maps(read, name, part.images, batch_size, storage) for part in (fit, held))
        scores: dict[float, float] = {}
        for rate in rates:
            trial = fitted(fit_maps, fit.masks, rate)
            seen = _predict(trial, torch.split(held_maps, batch_size), held.masks)
            scores[rate] = segmentation_metrics(seen, held.masks, classes, ignore_index=ignore_index).miou
        rate = max(scores, key=scores.__getitem__)
        if validation is None:
            fit_maps = torch.cat([fit_maps, held_maps])
        final = fitted(fit_maps, fit.masks if validation is not None else torch.cat([fit.masks, held.masks]), rate)
        with reading() as read:
            maps = (read(images)[name] for images in torch.split(asked.images, batch_size))
            predictions = _predict(final, maps, asked.masks)
        found = segmentation_metrics(predictions, asked.masks, classes, ignore_index=ignore_index)
        score = SegmentationScore(found.miou, found.pixel_accuracy, scores[rate], rate, fit_maps.shape[1])
        best[name] = (score, final, predictions, found.class_iou)
    chosen = max(best, key=lambda name: best[name][0].validation)
    score, final, predictions, class_iou = best[chosen]
    return SegmentationResult(
        miou=score.miou,
        pixel_accuracy=score.pixel_accuracy,
        class_iou=class_iou,
        layer=chosen,
        layers={name: each[0] for name, each in best.items()},
        predictions=predictions,
        head=final.requires_grad_(False),
        seconds=time.monotonic() - begun,
    )


@contextmanager
def _reading(model: Model, layers: Layers, precision: Precision) -> Iterator[Read]:
    device = module_device(model)
    exact = resolve_precision(precision, device)
    autocast = torch.autocast(device.type, torch.float16 if exact == "fp16" else torch.bfloat16, exact != "fp32")
    with evaluation_mode(model), capture_maps(model, layers) as read:

        def read_images(images: Tensor) -> dict[str, Tensor]:
            with autocast:
                return read(as_float(images.to(device)))

        yield read_images


def _maps(read: Read, name: str, images: Tensor, batch_size: int, storage: torch.dtype) -> Tensor:
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
    """Classify the pixels of batches of maps, in masks like ``masks``."""
    device = next(head.parameters()).device
    size = (masks.shape[1], masks.shape[2])
    parts = [upsampled(head(chunk.to(device).float()), size).argmax(1).to(masks.dtype).cpu() for chunk in maps]
    return torch.cat(parts)


def _split(train: Segmented, validation: Any, seed: int) -> tuple[Segmented, Segmented]:
    if validation is not None:
        return train, as_segmented(validation, "validation")
    count = len(train.images) // 5
    if not count:
        raise DataError(
            "at least 5 training images, a fifth of which is held out", got=len(train.images), fix="Pass validation."
        )
    order = torch.randperm(len(train.images), generator=derived_generator(seed, "split"))
    held, fit = order[:count], order[count:]
    return Segmented(*(part[fit] for part in train)), Segmented(*(part[held] for part in train))


def _classes(masks: Tensor, ignore_index: int) -> int:
    present = torch.unique(masks)
    present = present[present != ignore_index]
    if len(present) < 2:
        got = f"class {int(present[0])} only" if len(present) else "pixels that are all ignored"
        raise DataError("at least 2 classes in the masks of train", got=got, fix=f"Check {ignore_index=}.")
    return int(present.max()) + 1


def _check_known(masks: Tensor, what: str, classes: int, ignore_index: int) -> None:
    wrong = [label for label in torch.unique(masks).tolist() if label != ignore_index and not 0 <= label < classes]
    if wrong:
        raise DataError(
            f"{what} masks of classes 0 to {classes - 1}, which train has, or {ignore_index} (ignored)",
            got=f"class {wrong[0]}",
            fix="Set ignore_index, or give train every class.",
        )
