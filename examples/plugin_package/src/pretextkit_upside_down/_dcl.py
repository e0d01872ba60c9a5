"""DCL: contrastive learning without the positive pair among the negatives."""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from pretextkit import Backbone, TaskOutput
from pretextkit.batches import TwoViews
from pretextkit.distributed import current_rank, gather_rows
from pretextkit.errors import ShapeError
from pretextkit.models import MLPHead
from pretextkit.tasks import TwoViewTask
from pretextkit.views import Augmentation, CropAndRecolor

__all__ = ["DCL", "dcl_loss"]


def dcl_loss(z_a: Tensor, z_b: Tensor, *, temperature: float = 0.1) -> Tensor:
    """Compute the decoupled contrastive loss of two embeddings ``n d``.

    The same view of the same image, and its other view, are both removed from the negatives, which come from
    all processes. The loss is computed in fp32.
    """
    if len(z_a) * current_rank().world_size < 2:
        raise ShapeError("at least 2 images, because others are the negatives", got=len(z_a), fix="Use larger batches.")
    with torch.autocast(z_a.device.type, enabled=False):
        a, b = normalize(z_a.float()), normalize(z_b.float())
        candidates = torch.stack([gather_rows(a), gather_rows(b)])
        own = torch.arange(len(a), device=a.device) + current_rank().rank * len(a)
        total = a.new_zeros(())
        for query, key in ((a, b), (b, a)):
            scores = query @ candidates.mT / temperature  # 2 n m
            scores = scores.scatter(2, own.view(1, -1, 1).expand(2, -1, 1), -torch.inf)
            total = total + (scores.logsumexp((0, 2)) - (query * key).sum(1) / temperature).mean() / 2
        return total


class DCL(TwoViewTask[Backbone]):
    """Attract two views of an image, and repel other images, as two separate terms.

    The positive pair is left out of the denominator of SimCLR's loss, so that easy pairs keep their gradient in small
    batches (Yeh et al. 2022, arXiv 2110.06848). Metric: ``similarity``, the mean cosine of the two views.

    Args:
        backbone: Backbone to train.
        projection_dim: Width of the embeddings.
        temperature: Divisor of the similarities.
        augmentation: From images and a generator to one view of each image.
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        projection_dim: int = 128,
        temperature: float = 0.1,
        augmentation: Augmentation = CropAndRecolor(),  # noqa: B008 - cannot change
    ) -> None:
        super().__init__(backbone, augmentation)
        self.head = MLPHead(backbone.feature_dim, projection_dim)
        self.temperature = temperature

    def forward(self, batch: TwoViews) -> TaskOutput:
        """Embed both views and compare them."""
        z_a, z_b = self.head(self.backbone(torch.cat(batch))).chunk(2)
        similarity = torch.cosine_similarity(z_a.detach().float(), z_b.detach().float()).mean()
        return TaskOutput(dcl_loss(z_a, z_b, temperature=self.temperature), {"similarity": similarity})
