"""What the tasks share that cut patches out of a 3x3 grid: its layout, and the cures of its shortcuts."""

from __future__ import annotations

from typing import NamedTuple

from torch import Generator, Tensor

from pretextkit._validation import check_float, check_int
from pretextkit.contracts import Backbone, BatchT, PretextTask
from pretextkit.errors import ShapeError
from pretextkit.views import cut_patches, drop_colors, standardize_patches
from pretextkit.views._random import randint

__all__ = ["PatchLayout", "PatchTask"]

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
        """Fill images of ``size`` pixels: gaps of three jitters, so that neighbors never touch.

        Raises:
            ShapeError: Patches would be smaller than 6 pixels.

        Example:
            >>> PatchLayout.fitting(64), PatchLayout.fitting(32)
            (PatchLayout(patch=16, gap=6, jitter=2), PatchLayout(patch=8, gap=3, jitter=1))
        """
        size = check_int("size", size, fix="It is the images' shorter side.")
        jitter = max(1, size // 32)
        patch = (size - 8 * jitter) // 3
        if patch < SMALLEST_PATCH:
            raise ShapeError(
                f"images of at least {3 * SMALLEST_PATCH + 8} pixels, for a 3x3 grid of {SMALLEST_PATCH}-pixel patches",
                got=f"{size} pixels",
                fix="Enlarge them, or pass layout=PatchLayout(patch, gap, jitter).",
            )
        return cls(patch, 3 * jitter, jitter)


class PatchTask(PretextTask[BatchT]):
    """Cuts patches that tell their place by what they show, and by nothing else.

    Gaps and jitter are the cure against lines that run from patch to patch, one channel kept of many patches against
    the lens's color fringes, patches standardized one by one against vignetting. Where an image is larger than the
    grid, the grid lies anywhere in it.

    Args:
        backbone: What is trained; it sees single patches.
        layout: Patch, gap and jitter in pixels; by default fitted to the shorter side of the images.
        color_drop: Probability that a patch keeps one channel only.

    Raises:
        OptionError: ``layout`` lets neighbors overlap, or ``color_drop`` is no probability.

    Example:
        >>> from pretextkit.models import SmallCNN
        >>> from pretextkit.tasks import JigsawContext
        >>> class Uncured(JigsawContext):
        ...     def remove_shortcuts(self, patches, generator):
        ...         return patches
        >>> Uncured(SmallCNN()).layout_for(torch.zeros(1, 3, 64, 64))
        PatchLayout(patch=16, gap=6, jitter=2)
    """

    def __init__(self, backbone: Backbone, *, layout: PatchLayout | None, color_drop: float) -> None:
        super().__init__(backbone)
        if layout is not None:
            fix = "For example PatchLayout(patch=16, gap=6, jitter=2)."
            patch, jitter = (
                check_int("patch", layout.patch, fix=fix),
                check_int("jitter", layout.jitter, at_least=0, fix=fix),
            )
            fix = f"A gap of twice the jitter keeps neighbors from overlapping. {fix}"
            layout = PatchLayout(patch, check_int("gap", layout.gap, at_least=2 * jitter, fix=fix), jitter)
        self.layout = layout
        self.color_drop = check_float("color_drop", color_drop, "[0, 1]", of=type(self))

    def layout_for(self, images: Tensor) -> PatchLayout:
        """Give the layout of ``b c h w``.

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
        return layout

    def cut(self, images: Tensor, top: Tensor, left: Tensor, layout: PatchLayout, generator: Generator) -> Tensor:
        """Cut a cured patch ``b c p p`` out of each image, 0 to 2 jitters below and right of the corner given."""
        top, left = (side + randint(images, 2 * layout.jitter + 1, generator) for side in (top, left))
        return self.remove_shortcuts(cut_patches(images, top, left, layout.patch), generator)

    def remove_shortcuts(self, patches: Tensor, generator: Generator) -> Tensor:
        """Take from patches ``b c p p`` what tells their place without showing anything."""
        return standardize_patches(drop_colors(patches, self.color_drop, generator=generator))
