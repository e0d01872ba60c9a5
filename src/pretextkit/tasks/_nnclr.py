"""NNCLR: contrast with the nearest neighbor among earlier images."""

from __future__ import annotations

import torch
from torch import Tensor

from pretextkit._validation import check_float, check_int
from pretextkit.batches import TwoViews
from pretextkit.contracts import BackboneT, TaskOutput
from pretextkit.losses import info_nce_loss
from pretextkit.models.heads import MLPHead
from pretextkit.registries import register_pretext_task
from pretextkit.tasks._momentum import EmbeddingQueue
from pretextkit.tasks._projection import check_widths, normed_projection
from pretextkit.tasks._two_views import TwoViewTask, two_view_metrics
from pretextkit.views import Augmentation, CropAndRecolor

__all__ = ["NNCLR"]


@register_pretext_task("nnclr")
class NNCLR(TwoViewTask[BackboneT]):
    """Match the prediction of a view with the nearest earlier embedding of the other view.

    Neighbors are views that no augmentation can make: other images of the same kind (Dwibedi et al. 2021, arXiv
    2104.14548).

    Not suited to runs of a few epochs, because the queue begins with random embeddings.

    Metrics: ``top1``, the fraction of views whose nearest view shows the same image; ``alignment`` and ``uniformity``
    of the projections.

    Args:
        backbone: Backbone to train.
        projection_dim: Width of the embeddings.
        hidden_dim: Width of the hidden layers of projector and predictor.
        queue: Number of earlier embeddings that are searched.
        temperature: Temperature of the InfoNCE loss.
        augmentation: From images and a generator to one view of each image.

    Raises:
        OptionError: A number is out of range.

    Example:
        >>> from pretextkit.models import SmallCNN
        >>> task = NNCLR(SmallCNN(), queue=100)
        >>> sorted(task.step(torch.rand(4, 3, 32, 32), torch.Generator().manual_seed(0)).metrics)
        ['alignment', 'top1', 'uniformity']
    """

    def __init__(
        self,
        backbone: BackboneT,
        *,
        projection_dim: int = 256,
        hidden_dim: int = 512,
        queue: int = 2048,
        temperature: float = 0.2,
        augmentation: Augmentation = CropAndRecolor(),  # noqa: B008 - cannot change
    ) -> None:
        super().__init__(backbone, augmentation)
        width, hidden = check_widths(NNCLR, projection_dim=projection_dim, hidden_dim=hidden_dim)
        self.temperature = check_float("temperature", temperature, "(0, inf)", of=NNCLR)
        self.projector = normed_projection(backbone.feature_dim, hidden, width)
        self.predictor = MLPHead(width, width, hidden)
        self.queue = EmbeddingQueue(check_int("queue", queue, of=NNCLR), width)

    def forward(self, batch: TwoViews) -> TaskOutput:
        z = self.projector(self.features(batch))
        p_a, p_b = self.predictor(z).chunk(2)
        z_a, z_b = z.detach().float().chunk(2)
        one = info_nce_loss(self._nearest(z_a), p_b, temperature=self.temperature)
        other = info_nce_loss(self._nearest(z_b), p_a, temperature=self.temperature)
        self.queue.add(z_a)
        return TaskOutput((one + other) / 2, two_view_metrics(z_a, z_b))

    def _nearest(self, z: Tensor) -> Tensor:
        """Look up the embedding of the queue that is most similar to each row of ``n d``."""
        with torch.autocast(z.device.type, enabled=False):
            rows = self.queue.rows.to(z.dtype)
            return rows[(z @ rows.T).argmax(1)].clone()

    def after_step(self) -> None:
        self.queue.commit()
