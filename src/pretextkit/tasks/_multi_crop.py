"""What the tasks that compare many views share: global and local crops, and their features."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
from torch import Generator, Tensor

from pretextkit._modules import network_name
from pretextkit._validation import check_callable, check_int
from pretextkit.batches import MultiViews
from pretextkit.contracts import BackboneT, PretextTask, Recommended
from pretextkit.errors import ShapeError
from pretextkit.tasks._two_views import IMAGES_TO_READ
from pretextkit.views import CropAndRecolor

__all__ = ["MultiCrop", "MultiViewTask"]

LARGE, SMALL = CropAndRecolor(crop_scale=(0.3, 1.0)), CropAndRecolor(crop_scale=(0.1, 0.3), side=0.5)


@dataclass(frozen=True)
class MultiCrop:
    """Make large views of most of each image, and small views of a part of it.

    Small views are cheap, and have to predict what they do not show (Caron et al. 2020, arXiv 2006.09882).

    Args:
        global_views: Number of large views, at least 2.
        local_views: Number of small views; 0 makes none.
        global_crop: Makes a large view; by default with 30 % of the area or more.
        local_crop: Makes a small view; by default of half the side, with 10 to 30 % of the area.

    Raises:
        OptionError: A number is out of range.

    Example:
        >>> batch = MultiCrop()(torch.rand(2, 3, 32, 32), torch.Generator().manual_seed(0))
        >>> [tuple(view.shape) for views in batch for view in views]
        [(2, 3, 32, 32), (2, 3, 32, 32), (2, 3, 16, 16), (2, 3, 16, 16)]
    """

    global_views: int = 2
    local_views: int = 2
    global_crop: Callable[[Tensor, Generator], Tensor] = LARGE
    local_crop: Callable[[Tensor, Generator], Tensor] = SMALL

    def __post_init__(self) -> None:
        fix = "Every view is compared with another one."
        object.__setattr__(self, "global_views", check_int("global_views", self.global_views, at_least=2, fix=fix))
        object.__setattr__(self, "local_views", check_int("local_views", self.local_views, at_least=0, of=MultiCrop))

    def __call__(self, images: Tensor, generator: Generator) -> MultiViews:
        """Map ``b c h w`` to views of each image."""
        large = tuple(self.global_crop(images, generator) for _ in range(self.global_views))
        return MultiViews(large, tuple(self.local_crop(images, generator) for _ in range(self.local_views)))


class MultiViewTask(PretextTask[MultiViews, BackboneT]):
    """Base of tasks that compare many views of each image, large and small.

    Args:
        backbone: Backbone to train.
        augmentation: From images ``b c h w`` and a generator to ``MultiViews``, such as :class:`MultiCrop`.
    """

    recommended = Recommended(learning_rate=1e-3, smallest_batch=64, largest_batch=256, images_to_read=IMAGES_TO_READ)

    def __init__(self, backbone: BackboneT, augmentation: Callable[[Tensor, Generator], MultiViews]) -> None:
        super().__init__(backbone)
        check_callable("augmentation", augmentation, "images", "generator")
        self.augmentation = augmentation

    @final
    def views(self, images: Tensor, generator: Generator) -> MultiViews:
        """Make views of each image ``b c h w``.

        Raises:
            ShapeError: A view is smaller than the backbone takes.
        """
        batch = self.augmentation(images, generator)
        self._check_sides(batch, images)
        return batch

    def _check_sides(self, batch: MultiViews, images: Tensor) -> None:
        """Refuse images whose small views are smaller than the backbone takes, with the size that works."""
        smallest: int = getattr(self.backbone, "smallest_image", 1)  # other modules with a feature_dim have none
        if smallest == 1:
            return
        side, whole = min(min(view.shape[2:]) for views in batch for view in views), min(images.shape[2:])
        if side < smallest:
            name = network_name(self.backbone)
            raise ShapeError(
                f"views of at least {smallest}x{smallest} pixels, the smallest that {name} takes",
                got=f"views of {side} pixels a side, of images of {images.shape[2]}x{images.shape[3]}",
                fix=f"Enlarge the images to at least {-(-smallest * whole // side)} pixels a side, or take another "
                "backbone.",
            )

    @final
    def features(self, batch: MultiViews) -> Tensor:
        """Compute features ``(v b) d`` of all views, global views first, with one pass for each size."""
        return torch.cat([self.backbone(torch.cat(views)) for views in batch if views])
