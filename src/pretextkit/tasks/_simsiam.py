"""SimSiam: predict the embedding of another view, without negatives and without a momentum copy."""

from __future__ import annotations

from pretextkit.batches import TwoViews
from pretextkit.contracts import BackboneT, TaskOutput
from pretextkit.losses import negative_cosine_similarity
from pretextkit.models.heads import MLPHead
from pretextkit.registries import register_pretext_task
from pretextkit.tasks._projection import check_widths, normed_projection
from pretextkit.tasks._two_views import TwoViewTask, per_view, two_view_metrics
from pretextkit.views import Augmentation, CropAndRecolor

__all__ = ["SimSiam"]


@register_pretext_task("simsiam")
class SimSiam(TwoViewTask[BackboneT]):
    """Predict the embedding of another view, which gets no gradient.

    A predictor and a stop-gradient keep the features from collapsing (Chen & He 2020, arXiv 2011.10566). BatchNorm ends
    the projector; in the predictor it is in the hidden layer only, which is narrow. Its statistics in both are those of
    one view, as in the paper: with those of both views together, the features are worse.

    Not suited to runs without a look at ``spread``: only the predictor and the stop-gradient prevent a collapse.

    Metrics: ``top1``, the fraction of views whose nearest view shows the same image; ``alignment`` and ``uniformity``
    of the projections.

    Args:
        backbone: Backbone to train.
        projection_dim: Width of the embeddings, and of the projector's hidden layers.
        predictor_dim: Width of the predictor's hidden layer.
        augmentation: From images and a generator to one view of each image.

    Raises:
        OptionError: A number is out of range.

    Example:
        >>> from pretextkit.models import SmallCNN
        >>> task = SimSiam(SmallCNN())
        >>> -1 <= task.step(torch.rand(4, 3, 32, 32), torch.Generator().manual_seed(0)).loss <= 1
        tensor(True)
    """

    def __init__(
        self,
        backbone: BackboneT,
        *,
        projection_dim: int = 512,
        predictor_dim: int = 128,
        augmentation: Augmentation = CropAndRecolor(),  # noqa: B008 - cannot change
    ) -> None:
        super().__init__(backbone, augmentation)
        width, narrow = check_widths(SimSiam, projection_dim=projection_dim, predictor_dim=predictor_dim)
        self.projector = normed_projection(backbone.feature_dim, width, width, width)
        self.predictor = MLPHead(width, width, narrow)

    def forward(self, batch: TwoViews) -> TaskOutput:
        z = per_view(self.projector, self.features(batch))
        p_a, p_b = per_view(self.predictor, z).chunk(2)
        z_a, z_b = z.detach().chunk(2)
        loss = (negative_cosine_similarity(p_a, z_b) + negative_cosine_similarity(p_b, z_a)) / 2
        return TaskOutput(loss, two_view_metrics(z_a, z_b))
