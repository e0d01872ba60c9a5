"""Names of features in results: a layer, its grid, and sums of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import nn

from pretextkit.inference._capture import Layers, Model

__all__ = ["GRID", "PLUS", "Part", "Plan", "affordable_parts", "grid_parts", "named_parts"]

GRID = re.compile(r"(.+) ([1-9]\d*)x\2")
"""Name of a layer and its grid in a result, such as ``stage3 2x2``."""

PLUS = " + "
"""Joins the names of features that one classifier reads, such as ``stage3 4x4 + stage4 2x2``."""

MAX_ENTRIES = 2**25
"""Largest number of images times width of a candidate, 128 MiB of features: 671 wide for 50,000 images."""

MAX_RANK = 2048
"""Largest rank of a candidate, the smaller of images and width: the cost of its eigenvectors is cubic in it."""

MAX_WIDTH = 8192
"""Largest width of a candidate for any number of images."""

Part = tuple[str, int]
"""A layer, and the side of the grid over which its map is averaged."""

Plan = Mapping[str, tuple[Part, ...]]
"""Name of features to the parts of which they are concatenated."""


def grid_parts(layers: Iterable[str], sides: Sequence[int]) -> dict[str, tuple[Part, ...]]:
    """Name the features of layers over grids; a single side is left out of the names.

    Example:
        >>> grid_parts(["stage1"], [1, 2])
        {'stage1 1x1': (('stage1', 1),), 'stage1 2x2': (('stage1', 2),)}
    """
    return {
        layer if len(sides) == 1 else f"{layer} {side}x{side}": ((layer, side),) for layer in layers for side in sides
    }


def named_parts(model: Model, layers: Layers, sides: Sequence[int]) -> dict[str, tuple[Part, ...]] | None:
    """Read names of results, such as ``stage3 2x2`` or ``stage3 2x2 + stage4``; None if all are names of layers.

    Example:
        >>> named_parts(nn.Identity(), ["stage3 2x2 + stage4", "stage1"], [1])
        {'stage3 2x2 + stage4': (('stage3', 2), ('stage4', 1)), 'stage1': (('stage1', 1),)}
    """
    if isinstance(layers, str):
        return None
    layers = list(layers)
    modules = dict(model.named_modules()) if isinstance(model, nn.Module) else {}
    plan: dict[str, tuple[Part, ...]] = {}
    for name in layers:
        texts = name.split(PLUS) if isinstance(name, str) and name not in modules else [name]
        grids = [None if text in modules or not isinstance(text, str) else GRID.fullmatch(text) for text in texts]
        if len(texts) == 1 and grids[0] is None:
            plan |= grid_parts([name], sides)
        else:
            plan[name] = tuple(
                (text, sides[0]) if found is None else (found[1], int(found[2]))
                for text, found in zip(texts, grids, strict=True)
            )
    return None if plan == grid_parts(layers, sides) else plan


def affordable_parts(maps: Mapping[str, Any], count: int, sides: Sequence[int]) -> dict[str, tuple[Part, ...]]:
    """Name the features that a probe compares by default: every stage over every grid that its map fills.

    The smallest grid of a stage always stays. Of the others, those stay that are at most 8192 wide, have at most 2**25
    entries for all images, and whose width or number of images is at most 2048.

    Args:
        maps: Maps ``b d h w`` of the stages.
        count: Number of images.
        sides: Sides of the grids.

    Example:
        >>> import torch
        >>> list(affordable_parts({"stage1": torch.zeros(1, 512, 8, 8)}, 5000, [1, 2, 4]))
        ['stage1 1x1', 'stage1 2x2']
    """
    plan: dict[str, tuple[Part, ...]] = {}
    for layer, values in maps.items():
        smallest = min(sides)
        for side in sorted(set(sides)):
            width = values.shape[1] * side**2
            affordable = width <= MAX_WIDTH and width * count <= MAX_ENTRIES and min(width, count) <= MAX_RANK
            if side == smallest or (side <= min(values.shape[2:]) and affordable):
                plan[f"{layer} {side}x{side}"] = ((layer, side),)
    return plan
