"""FixMatch (arXiv 2001.07685) as a task for ``pretrain``: a semi-supervised reference for the pretext tasks."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn

import pretextkit as pk
from pretextkit.views import color_jitter, hide_pixels, mask_blocks, random_grayscale, random_resized_crop

__all__ = ["FixMatch", "LabeledAndTwoViews", "augment"]


def augment(images: Tensor, generator: Generator) -> Tensor:
    """Crop and jitter colors at random."""
    images = random_resized_crop(images, scale=(0.5, 1.0), generator=generator)
    return color_jitter(images, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, generator=generator)


class LabeledAndTwoViews(NamedTuple):
    """Labeled images, and a weak and a strong view of unlabeled images."""

    images: Tensor
    labels: Tensor
    weak: Tensor
    strong: Tensor


class FixMatch(pk.PretextTask[LabeledAndTwoViews]):
    """Train on labels and on confident pseudo-labels: the strong view must match the prediction for the weak view.

    The paper evaluates a moving average of the weights; this task does not.
    """

    labeled: Tensor
    labels: Tensor

    def __init__(self, backbone: pk.Backbone, head: nn.Module, images: Tensor, labels: Tensor) -> None:
        super().__init__(backbone)
        self.head = head
        self.register_buffer("labeled", images)
        self.register_buffer("labels", labels)

    def views(self, images: Tensor, generator: Generator) -> LabeledAndTwoViews:
        rows = torch.randint(len(self.labels), (64,), generator=generator)
        return LabeledAndTwoViews(
            augment(self.labeled[rows].float() / 255, generator),
            self.labels[rows],
            random_resized_crop(images, scale=(0.75, 1.0), ratio=(0.9, 1.1), generator=generator),
            self._strong(images, generator),
        )

    def forward(self, batch: LabeledAndTwoViews) -> pk.TaskOutput:
        with torch.no_grad():
            confidence, pseudo_labels = self.head(self.backbone(batch.weak)).float().softmax(1).max(1)
        logits = self.head(self.backbone(torch.cat([batch.images, batch.strong]))).float()
        labeled, strong = logits.split([len(batch.images), len(batch.strong)])
        confident = (confidence >= 0.95).float()
        consistency = (nn.functional.cross_entropy(strong, pseudo_labels, reduction="none") * confident).mean()
        loss = nn.functional.cross_entropy(labeled, batch.labels) + consistency
        return pk.TaskOutput(loss, {"confident": confident.mean()})

    def _strong(self, images: Tensor, generator: Generator) -> Tensor:
        view = random_resized_crop(images, scale=(0.4, 1.0), generator=generator)
        view = color_jitter(view, brightness=0.6, contrast=0.6, saturation=0.6, hue=0.2, generator=generator)
        view = random_grayscale(view, 0.2, generator=generator)
        return hide_pixels(view, mask_blocks(view, count=1, side=0.4, generator=generator))
