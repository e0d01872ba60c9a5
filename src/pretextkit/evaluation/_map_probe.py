"""Heads on the maps of one layer of a frozen backbone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pretextkit._color import as_float
from pretextkit._evaluation_mode import evaluation_mode
from pretextkit._modules import module_device
from pretextkit._seeding import seeded
from pretextkit._validation import described
from pretextkit.data._segmentation import Segmented
from pretextkit.errors import DataError, OptionError, ShapeError
from pretextkit.evaluation._segmentation_heads import MapHead, fit_map_head, upsampled
from pretextkit.inference._capture import Layers, Model, Reader, capture_maps
from pretextkit.metrics._segmentation import SegmentationMetrics, segmentation_metrics
from pretextkit.training._hardware import Precision, forward_context

__all__ = ["HeadFit", "LayerProbe", "MapSource", "ProbeImages", "SegmentationScore", "probe_layer"]


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


class ProbeImages(NamedTuple):
    """Images of a probe."""

    fit: Segmented
    heldout: Segmented
    test: Segmented
    whole: bool
    """Whether the held-out images are part of train, to which the final head is fitted."""


@dataclass(frozen=True)
class MapSource:
    """Maps of the layers of a frozen backbone."""

    backbone: Model
    layers: Layers
    precision: Precision
    batch_size: int
    storage: torch.dtype

    def names(self, images: Tensor) -> list[str]:
        """Name the layers."""
        with self.reader() as read:
            return list(read(images))

    def kept(self, name: str, images: Tensor) -> Tensor:
        """Compute the maps of a layer, all in memory.

        Raises:
            DataError: They are not finite.
        """
        kept: Tensor | None = None
        with self.reader() as read:
            for rows in torch.split(torch.arange(len(images)), self.batch_size):
                maps = read(images[rows])[name]
                if not maps.isfinite().all():
                    fix = "Check the model's weights."
                    raise DataError(f"finite features from layer {name!r}", got="NaN or inf", fix=fix)
                if kept is None:
                    kept = torch.empty(len(images), *maps.shape[1:], dtype=self.storage)
                kept[rows] = maps.to("cpu", self.storage)
        assert kept is not None
        return kept

    @contextmanager
    def reader(self) -> Iterator[Reader]:
        """Give a function from images to the maps of each layer, on the device of the backbone."""
        device, autocast = forward_context(self.backbone, self.precision)
        with evaluation_mode(self.backbone), capture_maps(self.backbone, self.layers) as read:

            def read_images(images: Tensor) -> dict[str, Tensor]:
                with autocast:
                    return read(as_float(images.to(device)))

            yield read_images


@dataclass(frozen=True)
class HeadFit:
    """How heads are fitted to maps."""

    head: MapHead
    classes: int
    rates: Sequence[float]
    steps: int
    batch_size: int
    pixels: int
    ignore_index: int
    seed: int

    def fitted(self, maps: Tensor, masks: Tensor, rate: float, device: torch.device) -> nn.Module:
        """Fit a new head."""
        with seeded(self.seed):
            module = _built_head(self.head, maps[:1].to(device).float(), self.classes)
        fit_map_head(
            module, maps, masks, learning_rate=rate, steps=self.steps, batch_size=self.batch_size,
            pixels=self.pixels, ignore_index=self.ignore_index, seed=self.seed,
        )  # fmt: skip
        return module

    def metrics(self, predicted: Tensor, masks: Tensor) -> SegmentationMetrics:
        """Compare predictions with masks."""
        return segmentation_metrics(predicted, masks, self.classes, ignore_index=self.ignore_index)


class LayerProbe(NamedTuple):
    """Head and scores of one layer."""

    score: SegmentationScore
    head: nn.Module
    predictions: Tensor
    class_iou: tuple[float, ...]


def probe_layer(name: str, source: MapSource, images: ProbeImages, fitting: HeadFit) -> LayerProbe:
    """Choose the learning rate on held-out images, fit the head to all of train, and use test once."""
    device = module_device(source.backbone)
    maps, masks = source.kept(name, images.fit.images), images.fit.masks
    heldout = source.kept(name, images.heldout.images)
    scores: dict[float, float] = {}
    for rate in fitting.rates:
        trial = fitting.fitted(maps, masks, rate, device)
        predicted = _predict(trial, torch.split(heldout, source.batch_size), images.heldout.masks)
        scores[rate] = fitting.metrics(predicted, images.heldout.masks).miou
    rate = max(scores, key=scores.__getitem__)
    if images.whole:
        maps, masks = torch.cat([maps, heldout]), torch.cat([masks, images.heldout.masks])
    final = fitting.fitted(maps, masks, rate, device)
    with source.reader() as read:
        streamed = (read(batch)[name] for batch in torch.split(images.test.images, source.batch_size))
        predictions = _predict(final, streamed, images.test.masks)
    metrics = fitting.metrics(predictions, images.test.masks)
    score = SegmentationScore(metrics.miou, metrics.pixel_accuracy, scores[rate], rate, maps.shape[1])
    return LayerProbe(score, final, predictions, metrics.class_iou)


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


@torch.no_grad()
def _predict(head: nn.Module, maps: Iterable[Tensor], masks: Tensor) -> Tensor:
    """Classify the pixels of batches of maps, at the size and of the dtype of ``masks``."""
    device = next(head.parameters()).device
    size = (masks.shape[1], masks.shape[2])
    parts = [upsampled(head(chunk.to(device).float()), size).argmax(1).to(masks.dtype).cpu() for chunk in maps]
    return torch.cat(parts)
