"""Pretext tasks of a plug-in package: detect vertical flips; and DCL, a method of joint embedding, in its own file."""

import torch
from torch import Generator, Tensor
from torch.nn.functional import cross_entropy

from pretextkit import Backbone, Labeled, PretextTask, TaskOutput
from pretextkit.models import LinearHead

from ._dcl import DCL, dcl_loss

__all__ = ["DCL", "UpsideDown", "dcl_loss"]


class UpsideDown(PretextTask[Labeled]):
    """Predict whether an image is flipped vertically.

    The sky is above and feet are below. A flip leaves no black corner and no interpolated pixel as a shortcut.
    One of the transformations of Golan and El-Yaniv (2018, arXiv 1805.10917). Metric: ``accuracy`` (chance is 0.5).
    """

    def __init__(self, backbone: Backbone) -> None:
        super().__init__(backbone)
        self.head = LinearHead(backbone.feature_dim, 2)

    def views(self, images: Tensor, generator: Generator) -> Labeled:
        """Flip about half of ``b c h w`` vertically; label 1 marks flipped images."""
        labels = torch.randint(2, (len(images),), generator=generator, device=generator.device).to(images.device)
        return Labeled(torch.where(labels.view(-1, 1, 1, 1) == 1, images.flip(2), images), labels)

    def forward(self, batch: Labeled) -> TaskOutput:
        """Classify ``b c h w``."""
        logits = self.head(self.backbone(batch.images)).float()
        accuracy = (logits.detach().argmax(1) == batch.labels).float().mean()
        return TaskOutput(cross_entropy(logits, batch.labels), {"accuracy": accuracy})
