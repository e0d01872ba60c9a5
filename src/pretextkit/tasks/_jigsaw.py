"""Jigsaw puzzle: predict the order of nine shuffled tiles."""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import permutations

import torch
from einops import rearrange
from torch import Generator, Tensor, nn

from pretextkit._validation import check_int
from pretextkit.batches import Tiles
from pretextkit.contracts import BackboneT, TaskOutput
from pretextkit.errors import OptionError
from pretextkit.models.heads import MLPHead
from pretextkit.registries import register_pretext_task
from pretextkit.tasks._patches import PatchLayout, PatchTask
from pretextkit.views._augmentation import Augmentation, LightAugmentation
from pretextkit.views._random import randint

__all__ = ["Jigsaw", "distant_permutations"]

TILES = 9
SEED = 0


@register_pretext_task("jigsaw")
class Jigsaw(PatchTask[Tiles, BackboneT]):
    """Predict by which of a set of permutations the nine tiles of an image were shuffled.

    To solve the puzzle, a network has to recognize the parts of an object and their arrangement (Noroozi & Favaro 2016,
    arXiv 1603.09246). The backbone sees each tile separately and cannot match edges; only the head sees all nine. The
    permutations differ in many positions, because otherwise a single tile could reveal the order. Shortcuts are removed
    as in :class:`JigsawContext`: gaps and jitter break continuous lines, dropping two channels of a tile removes
    chromatic aberration, and standardizing each tile removes vignetting.

    Not suited to images below 48 pixels, whose tiles show little, nor to textures, whose tiles have no order.

    Metrics: ``accuracy`` (chance is ``1 / orders``).

    Args:
        backbone: Backbone to train; it sees single tiles.
        orders: Number of permutations, which are the classes; more make the task harder.
        layout: Patch, gap and jitter in pixels; None fits them to the shorter side of the images.
        color_drop: Probability that a tile keeps only one color channel.
        augmentation: Augmentation of each image before it is cut, so all its tiles share a crop and colors; None
            leaves the images as they are. The default mirrors no image.

    Raises:
        OptionError: Tiles of ``layout`` overlap, a number is out of range, or ``augmentation`` is no function.

    Example:
        >>> from pretextkit.models import SmallCNN
        >>> task = Jigsaw(SmallCNN(), orders=8)
        >>> batch = task.views(torch.rand(2, 3, 64, 64), torch.Generator().manual_seed(0))
        >>> len(batch.tiles), batch.tiles[0].shape, batch.permutation.shape
        (9, torch.Size([2, 3, 16, 16]), torch.Size([2]))
    """

    orders: Tensor

    def __init__(
        self,
        backbone: BackboneT,
        *,
        orders: int = 64,
        layout: PatchLayout | None = None,
        color_drop: float = 0.66,
        augmentation: Augmentation | None = LightAugmentation(),  # noqa: B008 - a tuple, which cannot change
    ) -> None:
        super().__init__(backbone, layout=layout, color_drop=color_drop, augmentation=augmentation)
        self.register_buffer("orders", distant_permutations(orders))  # saved in checkpoints, because labels index it
        self.head = MLPHead(TILES * backbone.feature_dim, len(self.orders), hidden_dim=512)

    @property
    def chance_accuracy(self) -> float:
        """One over the number of orders."""
        return 1 / len(self.orders)

    def views(self, images: Tensor, generator: Generator) -> Tiles:
        """Cut nine tiles out of each image ``b c h w`` and shuffle them by a random permutation.

        Raises:
            ShapeError: The grid is larger than the images.
        """
        layout = self.layout_for(images)
        images = self.augment(images, generator)
        permutation = randint(images, len(self.orders), generator)
        sources = self.orders.to(images.device)[permutation]
        top, left = (randint(images, side - layout.span + 1, generator) for side in images.shape[2:])
        step = layout.patch + layout.gap
        tiles = [
            self.cut(images, top + step * (source // 3), left + step * (source % 3), layout, generator)
            for source in sources.unbind(1)
        ]
        return Tiles(tuple(tiles), permutation)

    def forward(self, batch: Tiles) -> TaskOutput:
        features = self.backbone(torch.cat(batch.tiles))
        logits = self.head(rearrange(features, "(t b) d -> b (t d)", t=TILES)).float()
        loss = nn.functional.cross_entropy(logits, batch.permutation)
        correct = logits.detach().argmax(1) == batch.permutation
        return TaskOutput(loss, {"accuracy": correct.float().mean()})


def distant_permutations(count: int, length: int = TILES) -> Tensor:
    """Choose permutations with large pairwise Hamming distances.

    Each step adds the permutation farthest from its nearest chosen one (Noroozi & Favaro 2016, algorithm 1, with the
    smallest distance in place of the mean). A fixed seed breaks ties, so the result is deterministic.

    Args:
        count: Number of permutations.
        length: Number of permuted elements.

    Returns:
        ``count length``, int64; row ``i`` holds the element at each position in permutation ``i``.

    Raises:
        OptionError: ``count`` is below 2, or above the number of permutations.

    Example:
        >>> distant_permutations(3, length=3).sum(0)
        tensor([3, 3, 3])
    """
    length = check_int("length", length, at_least=2, of=distant_permutations)
    fix = f"For example {min(64, math.factorial(length))}."
    count = check_int("orders", count, at_least=None, fix=fix)
    if not 2 <= count <= math.factorial(length):
        raise OptionError(f"orders to be an integer from 2 to {math.factorial(length)}", got=count, fix=fix)
    return _distant_permutations(count, length).clone()  # a caller may modify the result, but not the cache


@lru_cache
def _distant_permutations(count: int, length: int) -> Tensor:
    every = torch.tensor(list(permutations(range(length))), dtype=torch.uint8)
    every = every[torch.randperm(len(every), generator=Generator().manual_seed(SEED))]
    chosen = [0]
    nearest = torch.full((len(every),), length, dtype=torch.uint8)
    while len(chosen) < count:
        distance = torch.zeros_like(nearest)
        for column, value in zip(every.unbind(1), every[chosen[-1]], strict=True):
            distance += column != value
        nearest = torch.minimum(nearest, distance)  # 0 for chosen permutations
        chosen.append(int(nearest.int().argmax()))
    return every[chosen].long()
