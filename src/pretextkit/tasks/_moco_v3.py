"""MoCo v3: contrast predictions with a momentum copy's embeddings."""

from __future__ import annotations

import torch

from pretextkit._validation import check_float
from pretextkit.batches import TwoViews
from pretextkit.contracts import BackboneT, TaskOutput
from pretextkit.losses import info_nce_loss
from pretextkit.models.heads import MLPHead
from pretextkit.registries import register_pretext_task
from pretextkit.tasks._momentum import MomentumCopy
from pretextkit.tasks._projection import check_widths, normed_projection
from pretextkit.tasks._two_views import TwoViewTask, two_view_metrics
from pretextkit.views import Augmentation, CropAndRecolor

__all__ = ["MoCoV3"]


@register_pretext_task("moco-v3")
class MoCoV3(TwoViewTask[BackboneT]):
    """Find, among a momentum copy's embeddings of all images, the embedding of the same image in another view.

    BYOL's networks with the contrastive loss of SimCLR, and without the queue of earlier versions (Chen et al. 2021,
    arXiv 2104.02057). Differences from the paper: a constant momentum, and a loss that is not scaled by the
    temperature.

    Not suited to small batches, because the negatives come from the batch.

    Metrics: ``top1``, the fraction of views whose nearest view shows the same image; ``alignment`` and ``uniformity``
    of the projections.

    Args:
        backbone: Backbone to train.
        projection_dim: Width of the embeddings.
        hidden_dim: Width of the hidden layers of projector and predictor.
        temperature: Temperature of the InfoNCE loss.
        momentum: Share of the copy's weights that is kept in each step.
        augmentation: From images and a generator to one view of each image.

    Raises:
        OptionError: A number is out of range.

    Example:
        >>> from pretextkit.models import SmallCNN
        >>> task = MoCoV3(SmallCNN())
        >>> sorted(task.step(torch.rand(4, 3, 32, 32), torch.Generator().manual_seed(0)).metrics)
        ['alignment', 'top1', 'uniformity']
    """

    def __init__(
        self,
        backbone: BackboneT,
        *,
        projection_dim: int = 256,
        hidden_dim: int = 512,
        temperature: float = 0.2,
        momentum: float = 0.99,
        augmentation: Augmentation = CropAndRecolor(),  # noqa: B008 - cannot change
    ) -> None:
        super().__init__(backbone, augmentation)
        width, hidden = check_widths(MoCoV3, projection_dim=projection_dim, hidden_dim=hidden_dim)
        self.temperature = check_float("temperature", temperature, "(0, inf)", of=MoCoV3)
        self.projector = normed_projection(backbone.feature_dim, hidden, width)
        self.predictor = MLPHead(width, width, hidden)
        self.target = MomentumCopy(backbone, self.projector, momentum=momentum)

    def forward(self, batch: TwoViews) -> TaskOutput:
        images = torch.cat(batch)
        z = self.projector(self.backbone(images))
        q_a, q_b = self.predictor(z).chunk(2)
        k_a, k_b = self.target(images).chunk(2)
        one = info_nce_loss(q_a, k_b, temperature=self.temperature)
        other = info_nce_loss(q_b, k_a, temperature=self.temperature)
        return TaskOutput((one + other) / 2, two_view_metrics(*z.chunk(2)))

    def after_step(self) -> None:
        self.target.follow(self.backbone, self.projector)
