"""Patch tasks: the layout of the 3x3 grid, and the removal of shortcuts."""

from __future__ import annotations

from typing import NamedTuple

from torch import Generator, Tensor

from pretextkit._modules import network_name
from pretextkit._validation import check_float, check_int
from pretextkit.contracts import BackboneT, BatchT, PretextTask
from pretextkit.errors import ShapeError
from pretextkit.views import cut_patches, drop_colors, standardize_patches
from pretextkit.views._augmentation import Augmentation, augmented, check_augmentation
from pretextkit.views._random import randint

__all__ = ["PatchLayout", "PatchTask"]

SMALLEST_PATCH = 6


class PatchLayout(NamedTuple):
    """Sizes of a 3x3 grid in pixels: side of a patch, gap between patches, and maximum random shift (jitter)."""

    patch: int
    gap: int
    jitter: int

    @property
    def span(self) -> int:
        """Side of the grid in pixels, including jitter."""
        return 3 * self.patch + 2 * self.gap + 2 * self.jitter

    @classmethod
    def fitting(cls, size: int) -> PatchLayout:
        """Fit a layout to images of ``size`` pixels, with gaps of three times the jitter.

        Raises:
            ShapeError: Patches would be smaller than 6 pixels.

        Example:
            >>> PatchLayout.fitting(64), PatchLayout.fitting(32)
            (PatchLayout(patch=16, gap=6, jitter=2), PatchLayout(patch=8, gap=3, jitter=1))
        """
        size = check_int("size", size, fix="Pass the shorter side of the images.")
        jitter, patch = jitter_of(size), fitted_patch(size)
        if patch < SMALLEST_PATCH:
            raise ShapeError(
                f"images of at least {3 * SMALLEST_PATCH + 8} pixels, for a 3x3 grid of {SMALLEST_PATCH}-pixel patches",
                got=f"{size} pixels",
                fix="Enlarge the images, or pass layout=PatchLayout(patch, gap, jitter).",
            )
        return cls(patch, 3 * jitter, jitter)


def fitted_patch(size: int) -> int:
    """Return the side of the patches that fit images of ``size`` pixels; at most 0 in small images."""
    return (size - 8 * jitter_of(size)) // 3


def jitter_of(size: int) -> int:
    return max(1, size // 32)


class PatchTask(PretextTask[BatchT, BackboneT]):
    """Base class of tasks that cut patches out of a 3x3 grid and remove shortcuts.

    Gaps and jitter break continuous lines, dropping two channels of a patch removes chromatic aberration, and
    standardizing each patch removes vignetting. In images larger than the grid, the position of the grid is random.

    Args:
        backbone: Backbone to train; it sees single patches.
        layout: Patch, gap and jitter in pixels; None fits them to the shorter side of the images.
        color_drop: Probability that a patch keeps only one color channel.
        augmentation: Augmentation of each image before it is cut, so all its patches share a crop and colors; None
            leaves the images as they are.

    Raises:
        OptionError: Patches of ``layout`` overlap, ``color_drop`` is not in [0, 1], or ``augmentation`` is no function.

    Example:
        >>> from pretextkit.models import SmallCNN
        >>> from pretextkit.tasks import JigsawContext
        >>> class WithShortcuts(JigsawContext):
        ...     def remove_shortcuts(self, patches, generator):
        ...         return patches
        >>> WithShortcuts(SmallCNN()).layout_for(torch.zeros(1, 3, 64, 64))
        PatchLayout(patch=16, gap=6, jitter=2)
    """

    def __init__(
        self,
        backbone: BackboneT,
        *,
        layout: PatchLayout | None,
        color_drop: float,
        augmentation: Augmentation | None = None,
    ) -> None:
        super().__init__(backbone)
        self.augmentation = check_augmentation(augmentation)
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
        """Choose the layout for images ``b c h w``.

        Raises:
            ShapeError: The grid is larger than the images.
        """
        height, width = images.shape[2:]
        layout = self.layout or PatchLayout.fitting(min(height, width))
        if min(height, width) < layout.span:
            raise ShapeError(
                f"images of at least {layout.span} pixels a side, for {layout}",
                got=f"{height}x{width}",
                fix="Enlarge the images, or choose a smaller layout.",
            )
        smallest: int = getattr(self.backbone, "smallest_image", 1)  # other modules with a feature_dim have none
        if layout.patch < smallest:
            size = next(size for size in range(smallest, 100 * smallest) if fitted_patch(size) >= smallest)
            name = network_name(self.backbone)
            raise ShapeError(
                f"patches of at least {smallest}x{smallest} pixels, the smallest that {name} takes",
                got=f"patches of {layout.patch}x{layout.patch}, in images of {height}x{width}",
                fix=f"Enlarge the images to at least {size} pixels a side, or take another backbone.",
            )
        return layout

    def augment(self, images: Tensor, generator: Generator) -> Tensor:
        """Augment images ``b c h w``, if the task has an augmentation."""
        return augmented(self.augmentation, images, generator)

    def cut(self, images: Tensor, top: Tensor, left: Tensor, layout: PatchLayout, generator: Generator) -> Tensor:
        """Cut a patch ``b c p p`` out of each image, shifted at random by 0 to 2 jitters, and remove shortcuts."""
        top, left = (side + randint(images, 2 * layout.jitter + 1, generator) for side in (top, left))
        return self.remove_shortcuts(cut_patches(images, top, left, layout.patch), generator)

    def remove_shortcuts(self, patches: Tensor, generator: Generator) -> Tensor:
        """Remove cues of patches ``b c p p`` that reveal their position without their content."""
        return standardize_patches(drop_colors(patches, self.color_drop, generator=generator))
