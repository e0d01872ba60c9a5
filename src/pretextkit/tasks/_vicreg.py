"""VICReg: equal views, with variance and without covariance."""

from __future__ import annotations

from pretextkit._validation import check_float, check_int
from pretextkit.batches import TwoViews
from pretextkit.contracts import BackboneT, TaskOutput
from pretextkit.losses import vicreg_loss
from pretextkit.registries import register_pretext_task
from pretextkit.tasks._projection import ProjectionHead
from pretextkit.tasks._two_views import TwoViewTask, two_view_metrics
from pretextkit.views import Augmentation, CropAndRecolor

__all__ = ["VICReg"]


@register_pretext_task("vicreg")
class VICReg(TwoViewTask[BackboneT]):
    """Make embeddings of two views equal, keep the variance of each dimension, and remove covariances.

    Each term prevents one failure, and nothing else does: there are no negatives, no momentum copy and no
    stop-gradient (Bardes et al. 2022, arXiv 2105.04906).

    Not suited to batches with far fewer images than dimensions, because covariances are then mostly noise.

    Metrics: ``top1``, the fraction of views whose nearest view shows the same image; ``alignment`` and ``uniformity``
    of the projections.

    Args:
        backbone: Backbone to train.
        projection_dim: Width of the embeddings, and of the hidden layers.
        invariance_weight: Weight of the squared difference of the views.
        variance_weight: Weight of the lack of variance.
        covariance_weight: Weight of the squared covariances.
        augmentation: From images and a generator to one view of each image.

    Raises:
        OptionError: A number is out of range.

    Example:
        >>> from pretextkit.models import SmallCNN
        >>> task = VICReg(SmallCNN())
        >>> task.step(torch.rand(4, 3, 32, 32), torch.Generator().manual_seed(0)).loss > 0
        tensor(True)
    """

    def __init__(
        self,
        backbone: BackboneT,
        *,
        projection_dim: int = 512,
        invariance_weight: float = 25.0,
        variance_weight: float = 25.0,
        covariance_weight: float = 1.0,
        augmentation: Augmentation = CropAndRecolor(),  # noqa: B008 - cannot change
    ) -> None:
        super().__init__(backbone, augmentation)
        width = check_int("projection_dim", projection_dim, of=VICReg)
        weights = {
            "invariance_weight": invariance_weight,
            "variance_weight": variance_weight,
            "covariance_weight": covariance_weight,
        }
        self.weights = {name: check_float(name, weight, "[0, inf)", of=VICReg) for name, weight in weights.items()}
        self.projector = ProjectionHead(backbone.feature_dim, width, width, width)

    def forward(self, batch: TwoViews) -> TaskOutput:
        z_a, z_b = self.projector(self.features(batch)).chunk(2)
        return TaskOutput(vicreg_loss(z_a, z_b, **self.weights), two_view_metrics(z_a, z_b))
