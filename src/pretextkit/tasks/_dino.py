"""DINO: match the outputs of a momentum copy that sees other views."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Generator, Tensor, nn

from pretextkit._validation import check_float, check_int
from pretextkit.batches import MultiViews
from pretextkit.contracts import BackboneT, TaskOutput
from pretextkit.losses import dino_loss
from pretextkit.models.heads import MLPHead
from pretextkit.registries import register_pretext_task
from pretextkit.tasks._momentum import MomentumCopy, RunningMean
from pretextkit.tasks._multi_crop import MultiCrop, MultiViewTask
from pretextkit.tasks._projection import PrototypeHead, check_widths

__all__ = ["DINO"]


@register_pretext_task("dino")
class DINO(MultiViewTask[BackboneT]):
    """Match, from any view, the outputs that a momentum copy gives for the large views of the image.

    The outputs of the copy are centered, so that none wins for all images, and sharpened, so that they differ (Caron et
    al. 2021, arXiv 2104.14294). Differences from the paper: constant momentum and temperature, and a projector with
    BatchNorm, as small networks without a transformer need.

    Not suited to a few thousand images with thousands of outputs: most outputs would stay unused.

    Metrics: ``teacher_entropy``, the mean entropy of the copy's outputs; ``outputs_used``, the effective number of
    outputs over all images, 1 if one output wins always.

    Args:
        backbone: Backbone to train.
        outputs: Number of outputs; a few thousand images need no more than a thousand.
        projection_dim: Width of the embeddings before the last layer.
        hidden_dim: Width of the projector's hidden layer.
        student_temperature: Divisor of the outputs that learn.
        teacher_temperature: Divisor of the copy's outputs, smaller.
        momentum: Share of the copy's weights that is kept in each step.
        center_momentum: Share of the center that is kept in each step.
        augmentation: From images and a generator to ``MultiViews``.

    Raises:
        OptionError: A number is out of range.

    Example:
        >>> from pretextkit.models import SmallCNN
        >>> task = DINO(SmallCNN(), outputs=64)
        >>> sorted(task.step(torch.rand(4, 3, 32, 32), torch.Generator().manual_seed(0)).metrics)
        ['outputs_used', 'teacher_entropy']
    """

    def __init__(
        self,
        backbone: BackboneT,
        *,
        outputs: int = 512,
        projection_dim: int = 128,
        hidden_dim: int = 512,
        student_temperature: float = 0.1,
        teacher_temperature: float = 0.04,
        momentum: float = 0.99,
        center_momentum: float = 0.9,
        augmentation: Callable[[Tensor, Generator], MultiViews] = MultiCrop(),  # noqa: B008 - cannot change
    ) -> None:
        super().__init__(backbone, augmentation)
        width, hidden = check_widths(DINO, projection_dim=projection_dim, hidden_dim=hidden_dim)
        outputs = check_int("outputs", outputs, of=DINO)
        self.warm = check_float("student_temperature", student_temperature, "(0, inf)", of=DINO)
        fix = "It sharpens the targets; at the student's temperature or above, outputs become uniform."
        self.cold = check_float("teacher_temperature", teacher_temperature, f"(0, {self.warm})", fix=fix, of=DINO)
        self.head = nn.Sequential(MLPHead(backbone.feature_dim, width, hidden), PrototypeHead(width, outputs))
        self.teacher = MomentumCopy(backbone, self.head, momentum=momentum)
        self.center = RunningMean(outputs, momentum=center_momentum)

    def forward(self, batch: MultiViews) -> TaskOutput:
        count = len(batch.global_views)
        student = self.head(self.features(batch)).chunk(count + len(batch.local_views))
        targets = self.teacher(torch.cat(batch.global_views))
        center = self.center.mean
        loss = dino_loss(
            student, targets.chunk(count), center, student_temperature=self.warm, teacher_temperature=self.cold
        )
        self.center.add(targets)
        probabilities = ((targets.float() - center) / self.cold).softmax(1)
        entropy = torch.special.entr(probabilities).sum(1).mean()
        used = torch.special.entr(probabilities.mean(0)).sum().exp()
        return TaskOutput(loss, {"teacher_entropy": entropy, "outputs_used": used})

    def after_step(self) -> None:
        self.teacher.follow(self.backbone, self.head)
        self.center.commit()
