"""Rotation prediction: by how many quarter turns was the image rotated?"""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn

from pretextkit.batches import Labeled
from pretextkit.contracts import BackboneT, PretextTask, TaskOutput
from pretextkit.models.heads import LinearHead
from pretextkit.registries import register_pretext_task
from pretextkit.views import all_rotations

__all__ = ["Rotation"]

ANGLES = (0, 90, 180, 270)


@register_pretext_task("rotation")
class Rotation(PretextTask[Labeled, BackboneT]):
    """Tell by which of four right angles an image was rotated.

    Whoever knows which way up an object stands has recognized it (Gidaris et al. 2018, arXiv 1803.07728). All four
    rotations of every image are in one batch, so that a step costs four forward passes. Features of middle stages
    transfer better than the last stage's: probe with ``layers="all"``.

    Metrics: ``accuracy`` (chance is 0.25) and ``accuracy_0``, ``accuracy_90``, ``accuracy_180``, ``accuracy_270``.

    Args:
        backbone: What is trained.

    Example:
        >>> from pretextkit.models import SmallCNN
        >>> task = Rotation(SmallCNN())
        >>> batch = task.views(torch.rand(2, 3, 32, 32), torch.Generator())
        >>> batch.images.shape, batch.labels
        (torch.Size([8, 3, 32, 32]), tensor([0, 0, 1, 1, 2, 2, 3, 3]))
        >>> sorted(task(batch).metrics)
        ['accuracy', 'accuracy_0', 'accuracy_180', 'accuracy_270', 'accuracy_90']
    """

    def __init__(self, backbone: BackboneT) -> None:
        super().__init__(backbone)
        self.head = LinearHead(backbone.feature_dim, len(ANGLES))

    def views(self, images: Tensor, generator: Generator) -> Labeled:
        """Rotate ``b c h h`` by all four angles; nothing is drawn from ``generator``.

        Raises:
            ShapeError: The images are not square.
        """
        labels = torch.arange(len(ANGLES), device=images.device).repeat_interleave(len(images))
        return Labeled(all_rotations(images), labels)

    def forward(self, batch: Labeled) -> TaskOutput:
        logits = self.head(self.backbone(batch.images)).float()
        loss = nn.functional.cross_entropy(logits, batch.labels)
        correct = (logits.detach().argmax(1) == batch.labels).float()
        metrics = {"accuracy": correct.mean()}
        for label, angle in enumerate(ANGLES):
            here = (batch.labels == label).float()
            metrics[f"accuracy_{angle}"] = (correct * here).sum() / here.sum().clamp(min=1)
        return TaskOutput(loss, metrics)
