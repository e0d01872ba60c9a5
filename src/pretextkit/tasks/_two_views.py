"""What the tasks that compare two views share: their views and metrics."""

from __future__ import annotations

from typing import final

import torch
from torch import Generator, Tensor, nn

from pretextkit._chunks import row_chunks
from pretextkit._validation import check_callable
from pretextkit.batches import TwoViews
from pretextkit.contracts import BackboneT, PretextTask, Recommended
from pretextkit.metrics import alignment, uniformity
from pretextkit.views import Augmentation

__all__ = ["IMAGES_TO_READ", "TwoViewTask", "per_view", "two_view_metrics"]

IMAGES_TO_READ = 1_000_000
"""Images that a training of joint embedding reads, because each pass has new views, and gains until late."""


class TwoViewTask(PretextTask[TwoViews, BackboneT]):
    """Base of tasks that compare two random views of each image.

    Args:
        backbone: Backbone to train.
        augmentation: From images ``b c h w`` and a generator to one view of each image, such as
            :class:`~pretextkit.views.CropAndRecolor`.
    """

    recommended = Recommended(learning_rate=1e-3, smallest_batch=64, largest_batch=256, images_to_read=IMAGES_TO_READ)

    def __init__(self, backbone: BackboneT, augmentation: Augmentation) -> None:
        super().__init__(backbone)
        check_callable("augmentation", augmentation, "images", "generator")
        self.augmentation = augmentation

    @final
    def views(self, images: Tensor, generator: Generator) -> TwoViews:
        """Make two views of each image ``b c h w``, one after the other."""
        return TwoViews(self.augmentation(images, generator), self.augmentation(images, generator))

    @final
    def features(self, batch: TwoViews) -> Tensor:
        """Compute features ``2b d`` of both views with one pass, those of view ``a`` first."""
        return self.backbone(torch.cat(batch))


def per_view(head: nn.Module, rows: Tensor) -> Tensor:
    """Apply a head to rows ``2b d``, those of each view alone: its BatchNorm has the statistics of one view.

    Example:
        >>> norm, rows = nn.BatchNorm1d(1, affine=False), torch.tensor([[0.0], [2.0], [10.0], [14.0]])
        >>> per_view(norm, rows).flatten().round().tolist()
        [-1.0, 1.0, -1.0, 1.0]
    """
    return torch.cat([head(view) for view in rows.chunk(2)])


@torch.no_grad()
def two_view_metrics(z_a: Tensor, z_b: Tensor) -> dict[str, Tensor]:
    """Measure embeddings ``n d`` of two views: ``top1``, ``alignment`` and ``uniformity``.

    Example:
        >>> {name: round(value.item()) for name, value in two_view_metrics(torch.eye(4), torch.eye(4)).items()}
        {'top1': 1, 'alignment': 0, 'uniformity': -4}
    """
    z_a, z_b = z_a.detach().float(), z_b.detach().float()
    return {"top1": _top1(z_a, z_b), "alignment": alignment(z_a, z_b), "uniformity": uniformity(z_a)}


def _top1(z_a: Tensor, z_b: Tensor) -> Tensor:
    """Compute the fraction of rows of ``z_a`` whose most similar row of both views is their partner in ``z_b``."""
    a, b = nn.functional.normalize(z_a), nn.functional.normalize(z_b)
    to_partner = (a * b).sum(1)
    correct = a.new_zeros(())
    for chunk in row_chunks(len(a), 2 * len(a), a.device):
        with torch.autocast(a.device.type, enabled=False):  # half precision makes ties of similar neighbors
            to_others = torch.cat([a[chunk] @ a.T, a[chunk] @ b.T], 1)
        rows = torch.arange(len(chunk), device=a.device)
        to_others[rows, chunk] = -torch.inf
        to_others[rows, chunk + len(a)] = -torch.inf
        correct += (to_partner[chunk] > to_others.amax(1)).sum()
    return correct / len(a)
