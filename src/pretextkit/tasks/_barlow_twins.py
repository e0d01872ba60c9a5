"""Barlow Twins: embeddings that agree between views and have no redundant dimensions."""

from __future__ import annotations

from pretextkit._validation import check_float, check_int
from pretextkit.batches import TwoViews
from pretextkit.contracts import BackboneT, TaskOutput
from pretextkit.losses import barlow_twins_loss
from pretextkit.registries import register_pretext_task
from pretextkit.tasks._projection import ProjectionHead
from pretextkit.tasks._two_views import TwoViewTask, two_view_metrics
from pretextkit.views import Augmentation, CropAndRecolor

__all__ = ["BarlowTwins"]


@register_pretext_task("barlow-twins")
class BarlowTwins(TwoViewTask[BackboneT]):
    """Make each dimension of the embeddings agree between two views, and differ from all other dimensions.

    Dimensions are compared, not images: there are no negatives, no momentum copy and no stop-gradient (Zbontar et al.
    2021, arXiv 2103.03230). The loss is divided by the number of dimensions: its scale does not depend on them.

    Not suited to batches with far fewer images than dimensions, because correlations are then mostly noise.

    Metrics: ``top1``, the fraction of views whose nearest view shows the same image; ``alignment`` and ``uniformity``
    of the projections.

    Args:
        backbone: Backbone to train.
        projection_dim: Width of the embeddings, and of the hidden layers.
        redundancy_weight: Weight of the correlations between different dimensions.
        augmentation: From images and a generator to one view of each image.

    Raises:
        OptionError: A number is out of range.

    Example:
        >>> from pretextkit.models import SmallCNN
        >>> task = BarlowTwins(SmallCNN())
        >>> task.step(torch.rand(4, 3, 32, 32), torch.Generator().manual_seed(0)).loss > 0
        tensor(True)
    """

    def __init__(
        self,
        backbone: BackboneT,
        *,
        projection_dim: int = 512,
        redundancy_weight: float = 5e-3,
        augmentation: Augmentation = CropAndRecolor(),  # noqa: B008 - cannot change
    ) -> None:
        super().__init__(backbone, augmentation)
        self.projection_dim = check_int("projection_dim", projection_dim, of=BarlowTwins)
        self.redundancy_weight = check_float("redundancy_weight", redundancy_weight, "[0, inf)", of=BarlowTwins)
        self.projector = ProjectionHead(backbone.feature_dim, *(3 * [self.projection_dim]))

    def forward(self, batch: TwoViews) -> TaskOutput:
        z_a, z_b = self.projector(self.features(batch)).chunk(2)
        loss = barlow_twins_loss(z_a, z_b, redundancy_weight=self.redundancy_weight)
        return TaskOutput(loss / self.projection_dim, two_view_metrics(z_a, z_b))
