"""Stages of any network, found in one dry run."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from pretextkit.errors import OptionError, unknown_name
from pretextkit.models._dry_run import Call, side_of, trace

__all__ = [
    "CLASSIFIERS",
    "MOST_PREFIX_TOKENS",
    "Stage",
    "find_stages",
    "named_stages",
]

MOST_PREFIX_TOKENS = 16
CLASSIFIERS = ("classifier", "head", "heads", "fc")
"""Usual names of the last part of a network, which can be convolutional."""


class Stage(NamedTuple):
    """Layer of a network whose output is a stage, and how to read it as a map."""

    name: str
    layout: Literal["b d h w", "b h w d", "b n d"]
    width: int
    """Channels ``d`` of the map."""
    prefix: int = 0
    """Tokens before the patches, such as the class token."""
    patch: int = 1
    """Side in pixels of the patch of a token."""

    def as_map(self, output: Tensor, height: int, width: int) -> Tensor:
        """Convert the layer's output for images of ``height`` times ``width`` pixels to ``b d h' w'``."""
        if self.layout == "b d h w":
            return output
        if self.layout == "b h w d":
            return output.permute(0, 3, 1, 2)
        patches = output[:, self.prefix :].transpose(1, 2)
        grid = (math.ceil(height / self.patch), math.ceil(width / self.patch))  # with padding
        if grid[0] * grid[1] != patches.shape[2]:
            grid = (height // self.patch, width // self.patch)
        return patches.reshape(*patches.shape[:2], *grid)


def find_stages(network: nn.Module, channels: int, sizes: Iterator[int]) -> tuple[list[Stage], int]:
    """Find the last layer at each resolution of a convolutional network, or up to four blocks of a transformer.

    The first size is used that leaves every map larger than one pixel, because maps of one pixel are hard to tell from
    pooled features.

    Returns:
        The stages, and the size of the image in which they were found.

    Raises:
        OptionError: No layer returns a map or tokens.
    """
    first: tuple[list[Stage], int] | None = None
    for size in sizes:
        stages, complete = stages_at(network, channels, size)
        if stages and complete:
            return stages, size
        first = first or (stages, size)
    assert first is not None
    if first[0]:
        return first
    raise OptionError(
        f"{type(network).__name__} to have layers that return maps b d h w or tokens b n d",
        got=f"none in a dry run with images of {first[1]}x{first[1]} pixels",
        fix="Name the layers: wrap(module, stages=['layer1', 'layer2']), or pass size= for larger maps.",
    )


def named_stages(network: nn.Module, names: Sequence[str], channels: int, size: int) -> list[Stage]:
    """Describe the layers with the given names as stages, in the order of execution.

    Raises:
        UnknownNameError: The network has no such layer.
        OptionError: A layer is not called once, or returns neither a map nor tokens.
    """
    known = dict(network.named_modules())
    for name in names:
        if name not in known:
            raise unknown_name(f"layer of {type(network).__name__}", name, filter(None, known))
    calls = trace(network, channels, size)
    maps = [call for call in calls if side_of(call.output, size) not in (None, 1)]
    found = []
    for name in names:
        mine = [call for call in calls if call.name == name]
        if len(mine) != 1:
            raise OptionError(
                f"the layer {name!r} to run once and return a map b d h w or tokens b n d",
                got=f"{len(mine)} such outputs",
                fix="Choose a layer that runs once; with no stages=, wrap chooses them.",
            )
        found.append(mine[0])
    return [as_stage(call, size, maps) for call in sorted(found, key=lambda call: call.order)]


def stages_at(network: nn.Module, channels: int, size: int) -> tuple[list[Stage], bool]:
    """Find the stages with images of one size, and whether no map has shrunk to one pixel."""
    calls = trace(network, channels, size)
    once = {call.name: call for call in calls if sum(other.name == call.name for other in calls) == 1}
    maps = [each for each in atoms(network, "", once) if each.name.partition(".")[0] not in CLASSIFIERS]
    shrunk = [each for each in maps if side_of(each.output, size) == 1 and is_shrunk(network, each)]
    pixels = [each for each in maps if side_of(each.output, size) not in (None, 1)]
    blocks = token_blocks(network, once)
    insides = tuple(f"{block.name}." for block in blocks)  # with maps of attention, or convolutions between tokens
    outside = [call for call in pixels if not call.name.startswith(insides)]
    if blocks and (not outside or max(call.order for call in outside) < blocks[0].order):
        return token_stages(once, blocks, outside, size), True
    chosen: dict[int, Call] = {}
    level = 0
    for call in pixels or shrunk:
        halvings = round(math.log2(size / (side_of(call.output, size) or 1)))
        if halvings < level:  # a decoder, or a pooling to a fixed size
            break
        level = halvings
        same = level in chosen and chosen[level].output is call.output  # an Identity, or an in-place activation
        if not same or getattr(network.get_submodule(call.name), "inplace", False):
            chosen[level] = call
    return [as_stage(call, size, None) for call in chosen.values()], not shrunk


def is_shrunk(network: nn.Module, call: Call) -> bool:
    """Return whether a map of one pixel comes from a layer with weights that got a larger one: no pooling."""
    return (call.input_side or 1) > 1 and any(True for _ in network.get_submodule(call.name).parameters())


def atoms(module: nn.Module, name: str, calls: dict[str, Call]) -> Iterator[Call]:
    """List the layers that halve a map once at most, in the order of execution; larger ones are opened."""
    call = calls.get(name)
    side = None if call is None else side_of(call.output, 1 << 30)
    if (
        name and call is not None and side and (call.input_side or 1 << 30) <= 2 * side + min(side, 2)
    ):  # without padding
        yield call
        return
    inner = [
        found for child, part in module.named_children() for found in atoms(part, f"{name}.{child}".lstrip("."), calls)
    ]
    inner.sort(key=lambda each: each.order)
    yield from inner
    if call is not None and side is not None and not (inner and inner[-1].output is call.output):
        yield call  # what the forward method computes after its layers


def token_blocks(network: nn.Module, calls: dict[str, Call]) -> list[Call]:
    """Find the longest row of sibling blocks that return tokens ``b n d`` of one shape.

    The norms and dropouts of one block return such tokens too, and can be more than the blocks. So siblings of one
    class, with layers inside, come first; without them, the longest row of any sibling layers is taken.
    """
    rows: dict[tuple[str, torch.Size], list[Call]] = defaultdict(list)
    for call in calls.values():
        if call.output.ndim == 3 and call.output.shape[1] > 1:
            rows[call.name.rpartition(".")[0], call.output.shape].append(call)

    def rank(row: list[Call]) -> tuple[bool, int, int]:
        layers = [network.get_submodule(call.name) for call in row]
        alike = max(Counter(type(layer) for layer in layers if any(layer.children())).values(), default=0)
        return alike > 1, alike if alike > 1 else len(row), -row[0].name.count(".")

    row = max(rows.values(), key=rank, default=[])
    return row if len(row) > 1 else []


def token_stages(calls: dict[str, Call], blocks: list[Call], maps: list[Call], size: int) -> list[Stage]:
    """Choose up to four blocks; the last stage is the output of the final norm."""
    count = min(4, len(blocks))
    chosen = [blocks[(number + 1) * len(blocks) // count - 1] for number in range(count)]
    for call in calls.values():
        if call.order > chosen[-1].order and call.output.shape == blocks[0].output.shape:
            chosen[-1] = call if call.output is not chosen[-1].output else chosen[-1]
    return [as_stage(call, size, maps) for call in chosen]


def as_stage(call: Call, size: int, maps: list[Call] | None) -> Stage:
    """Describe the output of a layer."""
    shape = call.output.shape
    if call.output.ndim == 4:
        last = shape[1] == shape[2] != shape[3]
        return Stage(call.name, "b h w d", shape[3]) if last else Stage(call.name, "b d h w", shape[1])
    before = [side_of(each.output, size) for each in maps or () if each.order < call.order]
    sides = [side for side in before if side and 0 <= shape[1] - side**2 <= MOST_PREFIX_TOKENS]
    side = sides[-1] if sides else math.isqrt(shape[1])
    return Stage(call.name, "b n d", shape[2], shape[1] - side**2, math.ceil(size / side))
