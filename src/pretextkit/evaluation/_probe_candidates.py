"""Layers that a linear probe chooses from: which are extracted, and of which parts each consists."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pretextkit._modules import unwrap
from pretextkit.contracts import SpatialBackbone
from pretextkit.evaluation._features import Layers
from pretextkit.evaluation._layer_names import GRID, PLUS, grid_parts
from pretextkit.inference._capture import Model

__all__ = ["SIDES", "candidates", "has_stages", "last", "read_layers"]

SIDES = (1, 2, 4)
"""Grids over which the stages are averaged by default."""


def has_stages(backbone: Model, layers: Layers | Literal["auto"]) -> bool:
    """Whether every stage of a backbone is a candidate."""
    return layers == "auto" and isinstance(unwrap(backbone), SpatialBackbone)


def read_layers(backbone: Model, layers: Layers | Literal["auto"], sides: Sequence[int]) -> Layers | Literal["auto"]:
    """Return the layers to extract: the members of a sum apart, and the output of a model without stages."""
    if isinstance(layers, str):
        return "last" if layers == "auto" and not has_stages(backbone, layers) else layers
    return list(dict.fromkeys(part for name in layers for part in _members(name, sides)))


def _members(name: str, sides: Sequence[int]) -> tuple[str, ...]:
    """Split the name of a sum; members without a grid have the first one."""
    if not isinstance(name, str) or PLUS not in name:
        return (name,)
    grid = f" {sides[0]}x{sides[0]}" if len(sides) > 1 else ""
    return tuple(part if GRID.fullmatch(part) else part + grid for part in name.split(PLUS))


def candidates(
    extracted: Sequence[str], layers: Layers | Literal["auto"], sides: Sequence[int]
) -> dict[str, tuple[str, ...]]:
    """Map the candidates to the features of their members."""
    if isinstance(layers, str):
        return {name: (name,) for name in extracted}
    sums = {name: _members(name, sides) for name in layers if len(_members(name, sides)) > 1}
    alone = [name for name in layers if name not in sums]
    asked = {*alone, *grid_parts(alone, sides)}
    members = {part for parts in sums.values() for part in parts}
    return {name: (name,) for name in extracted if name in asked or name not in members} | sums


def last(names: Sequence[str]) -> str:
    """Return the name of the last layer over its smallest grid."""
    layers = [found[1] if (found := GRID.fullmatch(name)) else name for name in names if PLUS not in name]
    return names[layers.index(layers[-1])] if layers else names[-1]
