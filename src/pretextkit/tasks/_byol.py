"""BYOL: predict a momentum copy's embedding of another view."""

from __future__ import annotations

import torch

from pretextkit.batches import TwoViews
from pretextkit.contracts import BackboneT, TaskOutput
from pretextkit.losses import negative_cosine_similarity
from pretextkit.models.heads import MLPHead
from pretextkit.registries import register_pretext_task
from pretextkit.tasks._momentum import MomentumCopy
from pretextkit.tasks._projection import check_widths
from pretextkit.tasks._two_views import TwoViewTask, two_view_metrics
from pretextkit.views import Augmentation, CropAndRecolor

__all__ = ["BYOL"]


@register_pretext_task("byol")
class BYOL(TwoViewTask[BackboneT]):
    """Predict, from one view, how a slowly moving copy of the network embeds another view.

    No image is a negative, so small batches suffice (Grill et al. 2020, arXiv 2006.07733). The predictor and the copy
    keep the features from collapsing. Differences from the paper: a constant momentum, and one BatchNorm batch for
    both views.

    Not suited to runs of a few epochs, because the copy follows slowly.

    Metrics: ``top1``, the fraction of views whose nearest view shows the same image; ``alignment`` and ``uniformity``
    of the projections.

    Args:
        backbone: Backbone to train.
        projection_dim: Width of the embeddings.
        hidden_dim: Width of the hidden layers of projector and predictor.
        momentum: Share of the copy's weights that is kept in each step.
        augmentation: From images and a generator to one view of each image.

    Raises:
        OptionError: A number is out of range.

    Example:
        >>> from pretextkit.models import SmallCNN
        >>> task = BYOL(SmallCNN())
        >>> output = task.step(torch.rand(4, 3, 32, 32), torch.Generator().manual_seed(0))
        >>> output.loss < 4, sorted(output.metrics)
        (tensor(True), ['alignment', 'top1', 'uniformity'])
    """

    def __init__(
        self,
        backbone: BackboneT,
        *,
        projection_dim: int = 256,
        hidden_dim: int = 512,
        momentum: float = 0.99,
        augmentation: Augmentation = CropAndRecolor(),  # noqa: B008 - cannot change
    ) -> None:
        super().__init__(backbone, augmentation)
        width, hidden = check_widths(BYOL, projection_dim=projection_dim, hidden_dim=hidden_dim)
        self.projector = MLPHead(backbone.feature_dim, width, hidden)
        self.predictor = MLPHead(width, width, hidden)
        self.target = MomentumCopy(backbone, self.projector, momentum=momentum)

    def forward(self, batch: TwoViews) -> TaskOutput:
        images = torch.cat(batch)
        z = self.projector(self.backbone(images))
        p_a, p_b = self.predictor(z).chunk(2)
        t_a, t_b = self.target(images).chunk(2)
        similarity = -negative_cosine_similarity(p_a, t_b) - negative_cosine_similarity(p_b, t_a)
        return TaskOutput(2 - similarity, two_view_metrics(*z.chunk(2)))

    def after_step(self) -> None:
        self.target.follow(self.backbone, self.projector)
