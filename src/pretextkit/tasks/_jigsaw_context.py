"""Relative patch location: predict the position of a neighbor patch."""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn

from pretextkit._validation import check_int
from pretextkit.batches import PatchPair
from pretextkit.contracts import BackboneT, TaskOutput
from pretextkit.models.heads import MLPHead
from pretextkit.registries import register_pretext_task
from pretextkit.tasks._patches import PatchLayout, PatchTask
from pretextkit.views._augmentation import Augmentation, LightAugmentation
from pretextkit.views._random import randint

__all__ = ["JigsawContext"]

OFFSETS = tuple((row, column) for row in (-1, 0, 1) for column in (-1, 0, 1) if (row, column) != (0, 0))
"""Offsets in rows and columns from the center to the neighbors 0…7."""


@register_pretext_task("jigsaw-context")
class JigsawContext(PatchTask[PatchPair, BackboneT]):
    """Predict the position of a neighbor patch relative to the center patch.

    To know that a wheel is below a window, a network has to recognize the car (Doersch et al. 2015, arXiv 1505.05192).
    Shortcuts of the task are removed: gaps and jitter break continuous lines, dropping two channels of a patch removes
    chromatic aberration, and standardizing each patch removes vignetting. In images larger than the grid, the position
    of the grid is random.

    Not suited to textures, and to images without a usual layout: their patches have no positions.

    Metrics: ``accuracy`` (chance is 0.125).

    Args:
        backbone: Backbone to train; it sees single patches.
        layout: Patch, gap and jitter in pixels; None fits them to the shorter side of the images.
        pairs: Pairs cut from each image per step, drawn independently. A patch has about a sixteenth of the pixels, so
            several pairs cost less than one full image.
        color_drop: Probability that a patch keeps only one color channel.
        augmentation: Augmentation of each image before it is cut, so all its patches share a crop and colors; None
            leaves the images as they are. The default mirrors no image.

    Raises:
        OptionError: Patches of ``layout`` overlap, a number is out of range, or ``augmentation`` is no function.

    Example:
        >>> from pretextkit.models import SmallCNN
        >>> task = JigsawContext(SmallCNN(), pairs=1)
        >>> batch = task.views(torch.rand(2, 3, 64, 64), torch.Generator().manual_seed(0))
        >>> batch.center.shape, batch.neighbor.shape, batch.position.shape
        (torch.Size([2, 3, 16, 16]), torch.Size([2, 3, 16, 16]), torch.Size([2]))
    """

    chance_accuracy = 1 / len(OFFSETS)

    def __init__(
        self,
        backbone: BackboneT,
        *,
        layout: PatchLayout | None = None,
        pairs: int = 4,
        color_drop: float = 0.66,
        augmentation: Augmentation | None = LightAugmentation(),  # noqa: B008 - a tuple, which cannot change
    ) -> None:
        super().__init__(backbone, layout=layout, color_drop=color_drop, augmentation=augmentation)
        self.pairs = check_int("pairs", pairs, of=JigsawContext)
        self.head = MLPHead(2 * backbone.feature_dim, len(OFFSETS), hidden_dim=512)

    def views(self, images: Tensor, generator: Generator) -> PatchPair:
        """Cut ``pairs`` pairs of patches out of each image ``b c h w``; pairs of one image are consecutive rows.

        Raises:
            ShapeError: The grid is larger than the images.
        """
        layout = self.layout_for(images)
        images = self.augment(images, generator)
        images = images.repeat_interleave(self.pairs, 0)
        position = randint(images, len(OFFSETS), generator)
        top, left = (randint(images, side - layout.span + 1, generator) for side in images.shape[2:])
        step = layout.patch + layout.gap
        top, left = top + step, left + step
        below, right = torch.tensor(OFFSETS, device=images.device)[position].unbind(1)
        center = self.cut(images, top, left, layout, generator)
        neighbor = self.cut(images, top + step * below, left + step * right, layout, generator)
        return PatchPair(center, neighbor, position)

    def forward(self, batch: PatchPair) -> TaskOutput:
        features = self.backbone(torch.cat([batch.center, batch.neighbor]))
        logits = self.head(torch.cat(features.chunk(2), 1)).float()
        loss = nn.functional.cross_entropy(logits, batch.position)
        correct = logits.detach().argmax(1) == batch.position
        return TaskOutput(loss, {"accuracy": correct.float().mean()})
