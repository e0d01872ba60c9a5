"""SimCLR: contrast two random views of each image with all other images of the batch."""

from __future__ import annotations

from pretextkit._validation import check_float, check_int
from pretextkit.batches import TwoViews
from pretextkit.contracts import BackboneT, Recommended, TaskOutput
from pretextkit.losses import nt_xent_loss
from pretextkit.models.heads import MLPHead
from pretextkit.registries import register_pretext_task
from pretextkit.tasks._two_views import IMAGES_TO_READ, TwoViewTask, two_view_metrics
from pretextkit.views import Augmentation, CropAndRecolor

__all__ = ["SimCLR"]


@register_pretext_task("simclr")
class SimCLR(TwoViewTask[BackboneT]):
    """Attract the features of two random views of an image and repel the features of other images.

    Features that are invariant to cropping and recoloring describe the content of an image (Chen et al. 2020,
    arXiv 2002.05709).

    Not suited to small batches, because the negatives come from the batch, nor to classes that differ in color
    only.

    Metrics: ``top1``, the fraction of views whose nearest view shows the same image; ``alignment`` and ``uniformity``
    of the projections.

    Args:
        backbone: Backbone to train.
        projection_dim: Width of the projections in the loss.
        temperature: Temperature of the NT-Xent loss.
        augmentation: From images and a generator to one view of each image.

    Raises:
        OptionError: A number is out of range.

    Example:
        >>> from pretextkit.models import SmallCNN
        >>> task = SimCLR(SmallCNN())
        >>> output = task.step(torch.rand(4, 3, 32, 32), torch.Generator().manual_seed(0))
        >>> sorted(output.metrics)
        ['alignment', 'top1', 'uniformity']
    """

    recommended = Recommended(learning_rate=3e-3, smallest_batch=128, largest_batch=512, images_to_read=IMAGES_TO_READ)

    def __init__(
        self,
        backbone: BackboneT,
        *,
        projection_dim: int = 128,
        temperature: float = 0.2,
        augmentation: Augmentation = CropAndRecolor(),  # noqa: B008 - cannot change
    ) -> None:
        super().__init__(backbone, augmentation)
        projection_dim = check_int("projection_dim", projection_dim, of=SimCLR)
        self.head = MLPHead(backbone.feature_dim, projection_dim)
        self.temperature = check_float("temperature", temperature, "(0, inf)", of=SimCLR)

    def forward(self, batch: TwoViews) -> TaskOutput:
        z_a, z_b = self.head(self.features(batch)).float().chunk(2)
        loss = nt_xent_loss(z_a, z_b, temperature=self.temperature)
        return TaskOutput(loss, two_view_metrics(z_a, z_b))
