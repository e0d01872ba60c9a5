"""SwAV: predict the cluster of a view from other views."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Generator, Tensor, nn

from pretextkit._validation import check_float, check_int
from pretextkit.batches import MultiViews
from pretextkit.contracts import BackboneT, TaskOutput
from pretextkit.losses import swav_loss
from pretextkit.models.heads import MLPHead
from pretextkit.registries import register_pretext_task
from pretextkit.tasks._multi_crop import MultiCrop, MultiViewTask
from pretextkit.tasks._projection import PrototypeHead, check_widths

__all__ = ["SwAV"]


@register_pretext_task("swav")
class SwAV(MultiViewTask[BackboneT]):
    """Predict, from each view, the cluster that another view of the image is assigned to.

    Clusters are learned prototypes. The assignment uses all of them equally often, which prevents a collapse (Caron et
    al. 2020, arXiv 2006.09882). Differences from the paper: no queue, and prototypes train from the first step.

    Not suited to images most of which are of one kind, because all prototypes are used equally often.

    Metrics: ``prototypes_used``, the effective number of prototypes that views choose; ``agreement``, the fraction of
    images whose two global views choose the same prototype.

    Args:
        backbone: Backbone to train.
        projection_dim: Width of the embeddings.
        hidden_dim: Width of the projector's hidden layer.
        prototypes: Number of prototypes; a few for each expected class.
        temperature: Divisor of the scores of predictions.
        epsilon: Divisor of the scores of clusters; smaller values give clusters without doubt.
        augmentation: From images and a generator to ``MultiViews``.

    Raises:
        OptionError: A number is out of range.

    Example:
        >>> from pretextkit.models import SmallCNN
        >>> task = SwAV(SmallCNN(), prototypes=30)
        >>> sorted(task.step(torch.rand(4, 3, 32, 32), torch.Generator().manual_seed(0)).metrics)
        ['agreement', 'prototypes_used']
    """

    def __init__(
        self,
        backbone: BackboneT,
        *,
        projection_dim: int = 128,
        hidden_dim: int = 512,
        prototypes: int = 128,
        temperature: float = 0.1,
        epsilon: float = 0.05,
        augmentation: Callable[[Tensor, Generator], MultiViews] = MultiCrop(),  # noqa: B008 - cannot change
    ) -> None:
        super().__init__(backbone, augmentation)
        width, hidden = check_widths(SwAV, projection_dim=projection_dim, hidden_dim=hidden_dim)
        self.temperature = check_float("temperature", temperature, "(0, inf)", of=SwAV)
        self.epsilon = check_float("epsilon", epsilon, "(0, inf)", of=SwAV)
        self.head = nn.Sequential(
            MLPHead(backbone.feature_dim, width, hidden),
            PrototypeHead(width, check_int("prototypes", prototypes, of=SwAV)),
        )

    def forward(self, batch: MultiViews) -> TaskOutput:
        count = len(batch.global_views)
        scores = self.head(self.features(batch)).chunk(count + len(batch.local_views))
        loss = swav_loss(scores[:count], scores[count:], temperature=self.temperature, epsilon=self.epsilon)
        chosen = torch.stack([view.detach().argmax(1) for view in scores[:2]])
        shares = nn.functional.one_hot(chosen.flatten(), scores[0].shape[1]).float().mean(0)
        used = torch.special.entr(shares).sum().exp()
        return TaskOutput(loss, {"prototypes_used": used, "agreement": (chosen[0] == chosen[1]).float().mean()})
