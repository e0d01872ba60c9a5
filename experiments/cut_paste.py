"""CutPaste as a custom pretext task: detect, or locate, a piece of an image that was pasted elsewhere.

Li et al. (2021, arXiv 2104.04015) proposed the task for defect detection: a piece in the wrong place resembles a defect
and needs only flawless images. Here a piece is a rotated rectangle, from a thin scar to a patch, with a changed
brightness.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import adaptive_max_pool2d, binary_cross_entropy_with_logits

from pretextkit import Labeled, Masked, PretextTask, SpatialBackbone, TaskOutput
from pretextkit.functional import AnomalyScores, TopFraction
from pretextkit.models import LinearHead

__all__ = ["CutPasteClassification", "CutPasteSegmentation", "cut_paste"]

AREAS = (0.002, 0.3)
"""Smallest and largest area of a piece, as fractions of the image; log-uniform."""
STRETCH = 12.0
"""Largest ratio of the sides of a piece."""
JITTER = 0.3
"""Largest relative change of the brightness of a piece."""


def cut_paste(images: Tensor, generator: Generator, *, fraction: float = 0.67) -> Masked:
    """Paste a piece of an image elsewhere in it, in a ``fraction`` of ``b c h w``; the mask marks the piece."""
    count, _, height, width = images.shape
    low, log_stretch = math.log(AREAS[0]), math.log(STRETCH)
    draws = torch.rand(count, 9, generator=generator, device=generator.device).to(images.device)
    area = height * width * (low + (math.log(AREAS[1]) - low) * draws[:, 0]).exp()
    stretch = (log_stretch * (2 * draws[:, 1] - 1)).exp()
    half_length, half_width = (area * stretch).sqrt() / 2, (area / stretch).sqrt() / 2
    angle = math.pi * draws[:, 2, None, None]
    rows, columns = torch.arange(height, device=images.device), torch.arange(width, device=images.device)
    y = (rows - height * draws[:, 3, None])[:, :, None]
    x = (columns - width * draws[:, 4, None])[:, None, :]
    along, across = angle.cos() * x + angle.sin() * y, angle.cos() * y - angle.sin() * x
    inside = (along.abs() < half_length[:, None, None]) & (across.abs() < half_width[:, None, None])
    mask = (inside & (draws[:, 5, None, None] < fraction))[:, None]

    shift_y = (height * (0.1 + 0.8 * draws[:, 6, None])).long()
    shift_x = (width * (0.1 + 0.8 * draws[:, 7, None])).long()
    image = torch.arange(count, device=images.device)[:, None, None]
    elsewhere = images[image, :, ((rows - shift_y) % height)[:, :, None], ((columns - shift_x) % width)[:, None, :]]
    brightness = 1 + JITTER * (2 * draws[:, 8, None, None, None] - 1)
    piece = (elsewhere.permute(0, 3, 1, 2) * brightness).clamp(0, 1)
    return Masked(torch.where(mask, piece, images), mask, images)


class CutPasteClassification(PretextTask[Labeled]):
    """Classify images with and without a pasted piece: CutPaste as published. Metric: ``accuracy`` (chance is 0.5)."""

    def __init__(self, backbone: SpatialBackbone) -> None:
        super().__init__(backbone)
        self.head = LinearHead(backbone.feature_dim, 1)

    def views(self, images: Tensor, generator: Generator) -> Labeled:
        batch = cut_paste(images, generator, fraction=0.5)
        return Labeled(batch.visible, batch.mask.flatten(1).any(1).long())

    def forward(self, batch: Labeled) -> TaskOutput:
        logits = self.head(self.backbone(batch.images)).float()[:, 0]
        accuracy = ((logits.detach() > 0) == (batch.labels > 0)).float().mean()
        return TaskOutput(binary_cross_entropy_with_logits(logits, batch.labels.float()), {"accuracy": accuracy})

    @torch.no_grad()
    def scores(self, images: Tensor) -> AnomalyScores:
        self.eval()
        return AnomalyScores(
            torch.cat([self.head(self.backbone(part))[:, 0].float() for part in torch.split(images, 64)])
        )


class CutPasteSegmentation(PretextTask[Masked, SpatialBackbone]):
    """Predict the positions of pasted pieces on the last feature map, which also gives anomaly maps.

    An image has up to two pieces. Metric: ``recall``, the recall of positions that contain a part of a piece.
    """

    pieces = 2

    def __init__(self, backbone: SpatialBackbone) -> None:
        super().__init__(backbone)
        self.head = nn.Conv2d(backbone.feature_dim, 1, 1)

    def views(self, images: Tensor, generator: Generator) -> Masked:
        visible, mask = images, torch.zeros_like(images[:, :1], dtype=torch.bool)
        for _ in range(self.pieces):
            visible, one, _ = cut_paste(visible, generator)
            mask = mask | one
        return Masked(visible, mask, images)

    def logits(self, images: Tensor) -> Any:
        return self.head(self.backbone.feature_map(images)).float()

    def forward(self, batch: Masked) -> TaskOutput:
        logits = self.logits(batch.visible)
        pasted = adaptive_max_pool2d(batch.mask.float(), logits.shape[2:])
        recall = ((logits.detach() > 0) * pasted).sum() / pasted.sum().clamp(min=1)
        return TaskOutput(binary_cross_entropy_with_logits(logits, pasted), {"recall": recall})

    @torch.no_grad()
    def scores(self, images: Tensor) -> AnomalyScores:
        self.eval()
        size = images.shape[2:]
        maps = [nn.functional.interpolate(self.logits(part), size, mode="bilinear") for part in torch.split(images, 64)]
        found = torch.cat(maps)[:, 0]
        return AnomalyScores(TopFraction(0.01)(found), found)
