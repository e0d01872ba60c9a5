"""LeJEPA: equal views whose embeddings are Gaussian."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from pretextkit._validation import check_float, check_int
from pretextkit.batches import MultiViews
from pretextkit.contracts import BackboneT, TaskOutput
from pretextkit.losses import sigreg_loss
from pretextkit.registries import register_pretext_task
from pretextkit.tasks._multi_crop import MultiCrop, MultiViewTask
from pretextkit.tasks._projection import ProjectionHead

__all__ = ["LeJEPA"]


@register_pretext_task("lejepa")
class LeJEPA(MultiViewTask[BackboneT]):
    """Make the embeddings of all views of an image equal, and those of all images a standard Gaussian.

    One term replaces negatives, momentum copy, stop-gradient and predictor (Balestriero & LeCun 2025, arXiv
    2511.08544): along random directions, new in every step, the embeddings of each view are compared with a Gaussian.
    Difference from the paper: the weight of this term does not depend on the batch size.

    Not suited to small batches, which cannot be compared with a Gaussian, nor to classes that views make equal.

    Metrics: ``invariance``, the mean squared distance of views from the mean of the global views; ``sigreg``, the
    distance from a Gaussian, 0.4 for a single point.

    Args:
        backbone: Backbone to train.
        projection_dim: Width of the embeddings.
        hidden_dim: Width of the projector's hidden layers.
        sigreg_weight: Weight of the distance from a Gaussian.
        directions: Number of random directions in each step.
        augmentation: From images and a generator to ``MultiViews``.

    Raises:
        OptionError: A number is out of range.

    Example:
        >>> from pretextkit.models import SmallCNN
        >>> task = LeJEPA(SmallCNN())
        >>> sorted(task.step(torch.rand(4, 3, 32, 32), torch.Generator().manual_seed(0)).metrics)
        ['invariance', 'sigreg']
    """

    steps: Tensor

    def __init__(
        self,
        backbone: BackboneT,
        *,
        projection_dim: int = 64,
        hidden_dim: int = 512,
        sigreg_weight: float = 5.0,
        directions: int = 256,
        augmentation: Callable[[Tensor, Generator], MultiViews] = MultiCrop(),  # noqa: B008 - cannot change
    ) -> None:
        super().__init__(backbone, augmentation)
        self.projection_dim = check_int("projection_dim", projection_dim, of=LeJEPA)
        hidden = check_int("hidden_dim", hidden_dim, of=LeJEPA)
        self.sigreg_weight = check_float("sigreg_weight", sigreg_weight, "[0, inf)", of=LeJEPA)
        self.directions = check_int("directions", directions, of=LeJEPA)
        self.projector = ProjectionHead(backbone.feature_dim, hidden, hidden, self.projection_dim)
        self.register_buffer("steps", torch.tensor(0))

    def forward(self, batch: MultiViews) -> TaskOutput:
        count = len(batch.global_views)
        views = self.projector(self.features(batch)).float().chunk(count + len(batch.local_views))
        directions = self._directions().to(views[0].device)
        mean = torch.stack(views[:count]).mean(0)
        invariance = torch.stack([(view - mean).square().mean() for view in views]).mean()
        sigreg = torch.stack([sigreg_loss(view, directions) for view in views]).mean()
        loss = invariance + self.sigreg_weight * sigreg
        return TaskOutput(loss, {"invariance": invariance.detach(), "sigreg": sigreg.detach()})

    def _directions(self) -> Tensor:
        """Draw directions ``d s`` that depend on the step only: all processes and parts of a batch share them."""
        generator = Generator().manual_seed(int(self.steps))
        return torch.randn(self.projection_dim, self.directions, generator=generator)

    def after_step(self) -> None:
        self.steps += 1
