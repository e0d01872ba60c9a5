"""Relative patch location: where around the centre patch was this neighbour?"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn

from pretextkit.batches import PatchPair
from pretextkit.contracts import Backbone, PretextTask, TaskOutput
from pretextkit.errors import OptionError, ShapeError
from pretextkit.models.heads import MLPHead
from pretextkit.registries import pretext_task
from pretextkit.views import cut_patches, drop_colors, standardize_patches
from pretextkit.views.draw import choice

__all__ = ["JigsawContext", "PatchLayout"]

OFFSETS = tuple((row, column) for row in (-1, 0, 1) for column in (-1, 0, 1) if (row, column) != (0, 0))
"""Rows and columns from the centre to the neighbours 0…7."""

SMALLEST_PATCH = 6


class PatchLayout(NamedTuple):
    """Pixels of the 3x3 grid: patches, the gaps between them, and how far each is moved at random."""

    patch: int
    gap: int
    jitter: int

    @property
    def span(self) -> int:
        """Pixels that the grid needs, jitter included."""
        return 3 * self.patch + 2 * self.gap + 2 * self.jitter

    @classmethod
    def fitting(cls, size: int) -> PatchLayout:
        """Fill images of ``size`` pixels: gaps of three jitters, so that neighbours never touch.

        Raises:
            ShapeError: Patches would be smaller than 6 pixels.

        Example:
            >>> PatchLayout.fitting(64), PatchLayout.fitting(32)
            (PatchLayout(patch=16, gap=6, jitter=2), PatchLayout(patch=8, gap=3, jitter=1))
        """
        jitter = max(1, size // 32)
        patch = (size - 8 * jitter) // 3
        if patch < SMALLEST_PATCH:
            raise ShapeError(
                f"images of at least {3 * SMALLEST_PATCH + 8} pixels, for a 3x3 grid of {SMALLEST_PATCH}-pixel patches",
                got=f"{size} pixels",
                fix="Enlarge them, or pass layout=PatchLayout(patch, gap, jitter).",
            )
        return cls(patch, 3 * jitter, jitter)


@pretext_task("jigsaw-context")
class JigsawContext(PretextTask[PatchPair]):
    """Tell where around a centre patch one of its eight neighbours was.

    Whoever knows that the wheel is below the window has recognised the car (Doersch et al. 2015, arXiv 1505.05192).
    The task has shortcuts, and each has its cure: gaps and jitter against lines that run from patch to patch, one
    channel kept of many patches against the lens's colour fringes, patches standardised one by one against
    vignetting. Where an image is larger than the grid, the grid lies anywhere in it.

    Metrics: ``accuracy`` (chance is 0.125).

    Args:
        backbone: What is trained; it sees single patches.
        layout: Patch, gap and jitter in pixels; by default fitted to the shorter side of the images.
        pairs: Pairs cut from each image in one step, drawn independently. A patch has about a sixteenth of the image's
            pixels, so that several cost less than one whole image.
        color_drop: Probability that a patch keeps one channel only.

    Raises:
        OptionError: ``layout`` lets neighbours touch, or a number is out of range.

    Example:
        >>> from pretextkit.models import SmallCNN
        >>> task = JigsawContext(SmallCNN(), pairs=1)
        >>> batch = task.views(torch.rand(2, 3, 64, 64), torch.Generator().manual_seed(0))
        >>> batch.centre.shape, batch.neighbour.shape, batch.position.shape
        (torch.Size([2, 3, 16, 16]), torch.Size([2, 3, 16, 16]), torch.Size([2]))
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        layout: PatchLayout | None = None,
        pairs: int = 4,
        color_drop: float = 0.66,
    ) -> None:
        super().__init__(backbone)
        if layout is not None and (layout.patch < 1 or layout.jitter < 0 or layout.gap < 2 * layout.jitter):
            raise OptionError(
                "a patch of at least 1 pixel and a gap of at least twice the jitter, so that neighbours do not overlap",
                got=layout,
                fix="For example PatchLayout(patch=16, gap=6, jitter=2).",
            )
        if pairs < 1 or not 0 <= color_drop <= 1:
            raise OptionError(
                "pairs of at least 1 and color_drop in [0, 1]",
                got=f"pairs={pairs}, color_drop={color_drop}",
                fix="The defaults are 4 and 0.66.",
            )
        self.layout = layout
        self.pairs = pairs
        self.color_drop = color_drop
        self.head = MLPHead(2 * backbone.feature_dim, len(OFFSETS), hidden_dim=512)

    def views(self, images: Tensor, generator: Generator) -> PatchPair:
        """Cut ``pairs`` pairs of patches out of each image ``b c h w``; pairs of one image are consecutive rows.

        Raises:
            ShapeError: The grid does not fit into the images.
        """
        height, width = images.shape[2:]
        layout = self.layout or PatchLayout.fitting(min(height, width))
        if min(height, width) < layout.span:
            raise ShapeError(
                f"images of at least {layout.span} pixels a side, for {layout}",
                got=f"{height}x{width}",
                fix="Enlarge the images, or choose a smaller layout.",
            )
        images = images.repeat_interleave(self.pairs, 0)
        position = choice(images, len(OFFSETS), generator)
        grid = [choice(images, side - layout.span + 1, generator) + layout.jitter for side in (height, width)]
        step = layout.patch + layout.gap
        centre = [start + step for start in grid]
        offsets = torch.tensor(OFFSETS, device=images.device)[position].unbind(1)
        neighbour = [start + step * offset for start, offset in zip(centre, offsets, strict=True)]
        return PatchPair(
            self._patches(images, centre, layout, generator),
            self._patches(images, neighbour, layout, generator),
            position,
        )

    def _patches(self, images: Tensor, corner: list[Tensor], layout: PatchLayout, generator: Generator) -> Tensor:
        top, left = (start + choice(images, 2 * layout.jitter + 1, generator) - layout.jitter for start in corner)
        patches = cut_patches(images, top, left, layout.patch)
        return standardize_patches(drop_colors(patches, self.color_drop, generator=generator))

    def forward(self, batch: PatchPair) -> TaskOutput:
        features = self.backbone(torch.cat([batch.centre, batch.neighbour]))
        logits = self.head(torch.cat(features.chunk(2), 1)).float()
        loss = nn.functional.cross_entropy(logits, batch.position)
        correct = logits.detach().argmax(1) == batch.position
        return TaskOutput(loss, {"accuracy": correct.float().mean()})
