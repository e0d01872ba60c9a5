"""Jigsaw puzzle: in which order do these nine tiles lie?"""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import permutations

import torch
from einops import rearrange
from torch import Generator, Tensor, nn

from pretextkit._validation import check_int
from pretextkit.batches import Tiles
from pretextkit.contracts import Backbone, TaskOutput
from pretextkit.errors import OptionError
from pretextkit.models.heads import MLPHead
from pretextkit.registries import register_pretext_task
from pretextkit.tasks._patches import PatchLayout, PatchTask
from pretextkit.views._random import randint

__all__ = ["Jigsaw", "distant_permutations"]

TILES = 9
SEED = 0


@register_pretext_task("jigsaw")
class Jigsaw(PatchTask[Tiles]):
    """Tell in which of a set of orders the nine tiles of an image were shuffled.

    Whoever can put the tiles back knows what the parts of a thing are and how they lie (Noroozi & Favaro 2016,
    arXiv 1603.09246). The backbone sees each tile alone, so that it cannot match edges; only the head sees all nine.
    The orders are as different as can be, so that no single tile gives the order away, and the cures of
    :class:`JigsawContext` hold here too: gaps and jitter against lines that run on, one channel kept of many tiles
    against the lens's color fringes, tiles standardized one by one against vignetting.

    Metrics: ``accuracy`` (chance is one over the number of orders).

    Args:
        backbone: What is trained; it sees single tiles.
        orders: How many orders there are to choose from: more are harder.
        layout: Patch, gap and jitter in pixels; by default fitted to the shorter side of the images.
        color_drop: Probability that a tile keeps one channel only.

    Raises:
        OptionError: ``layout`` lets tiles overlap, or a number is out of range.

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
        backbone: Backbone,
        *,
        orders: int = 64,
        layout: PatchLayout | None = None,
        color_drop: float = 0.66,
    ) -> None:
        super().__init__(backbone, layout=layout, color_drop=color_drop)
        self.register_buffer("orders", distant_permutations(orders))  # a checkpoint keeps what its labels mean
        self.head = MLPHead(TILES * backbone.feature_dim, len(self.orders), hidden_dim=512)

    def views(self, images: Tensor, generator: Generator) -> Tiles:
        """Cut nine tiles out of each image ``b c h w`` and shuffle them by one of the orders.

        Raises:
            ShapeError: The grid does not fit into the images.
        """
        layout = self.layout_for(images)
        permutation = randint(images, len(self.orders), generator)
        cells = self.orders.to(images.device)[permutation]
        top, left = (randint(images, side - layout.span + 1, generator) for side in images.shape[2:])
        step = layout.patch + layout.gap
        tiles = [
            self.cut(images, top + step * (cell // 3), left + step * (cell % 3), layout, generator)
            for cell in cells.unbind(1)
        ]
        return Tiles(tuple(tiles), permutation)

    def forward(self, batch: Tiles) -> TaskOutput:
        features = self.backbone(torch.cat(batch.tiles))
        logits = self.head(rearrange(features, "(t b) d -> b (t d)", t=TILES)).float()
        loss = nn.functional.cross_entropy(logits, batch.permutation)
        correct = logits.detach().argmax(1) == batch.permutation
        return TaskOutput(loss, {"accuracy": correct.float().mean()})


def distant_permutations(count: int, length: int = TILES) -> Tensor:
    """Choose permutations that differ from each other in as many places as can be had.

    Each is, of all that are left, one whose nearest chosen one is farthest (Noroozi & Favaro 2016, algorithm 1, with
    the smallest distance in place of the mean); a fixed seed decides ties, and a second call gives the same tensor.

    Args:
        count: How many.
        length: What is permuted, 0 to ``length - 1``.

    Returns:
        ``count length``, int64; row ``i`` says which piece comes to each place.

    Raises:
        OptionError: ``count`` is below 2, or there are not so many permutations.

    Example:
        >>> distant_permutations(3, length=3).sum(0)
        tensor([3, 3, 3])
    """
    fix = "The default is 64."
    length = check_int("length", length, at_least=2, of=distant_permutations)
    count = check_int("orders", count, at_least=None, fix=fix)
    if not 2 <= count <= math.factorial(length):
        raise OptionError(f"2 to {math.factorial(length)} orders of {length} pieces", got=count, fix=fix)
    return _distant_permutations(count, length).clone()  # whoever changes it must not change what others get


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
        nearest = torch.minimum(nearest, distance)  # 0 for those chosen
        chosen.append(int(nearest.int().argmax()))
    return every[chosen].long()
