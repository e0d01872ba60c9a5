"""Stages of any network, found in one dry run."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from pretextkit._evaluation_mode import evaluation_mode
from pretextkit._modules import module_device, module_dtype
from pretextkit._validation import check_int
from pretextkit.errors import OptionError, PretextkitError, reason, unknown_name

__all__ = [
    "Stage",
    "check_complete",
    "dry_run_sizes",
    "find_stages",
    "input_channels",
    "named_stages",
    "smallest_side",
    "unused_modules",
]

SIZES = (64, 32, 28, 96, 128, 224, 256, 299, 384)
"""Sides of the images of a dry run, in the order of trial."""
MOST_PREFIX_TOKENS = 16
LEFT_OUT = 0.25
"""Share of the weights that may be after the last stage, beside the classifier."""
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


class Call(NamedTuple):
    """Output of a layer in the dry run, and the side of the map that it got."""

    name: str
    output: Tensor
    input_side: int | None
    order: int


def dry_run_sizes(network: nn.Module, channels: int, size: int | None) -> Iterator[int]:
    """Yield the sizes of images that the network takes, smallest trial first.

    Raises:
        OptionError: It takes none of the sizes.
    """
    sizes = SIZES if size is None else (check_int("size", size, fix="For example size=64."),)
    first: Exception | None = None
    working = []
    for side in sizes:
        try:
            with evaluation_mode(network):
                network(black_image(network, channels, side))
        except Exception as error:  # noqa: PERF203
            first = first or error
        else:
            working.append(side)
            yield side
    if not working:
        assert first is not None
        raise OptionError(
            f"{type(network).__name__} to take images of {' or '.join(map(str, sizes))} pixels and {channels} channels",
            got=reason(first),
            fix="Pass size=, the side in pixels of images that it takes, or a module that maps b c h w.",
        ) from first


def black_image(network: nn.Module, channels: int, side: int) -> Tensor:
    """Make one image for a dry run, on the device and in the dtype of the network."""
    return torch.zeros(1, channels, side, side, device=module_device(network), dtype=module_dtype(network))


def input_channels(network: nn.Module) -> int:
    """Return the number of channels that the first convolution takes; 3 without a convolution."""
    return next((m.in_channels for m in network.modules() if isinstance(m, nn.Conv2d)), 3)


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


def trace(network: nn.Module, channels: int, size: int) -> list[Call]:
    """Run the network on one image, and list the outputs of all layers that are maps or tokens."""
    calls: list[Call] = []

    def hook(name: str) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
        def record(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            if isinstance(output, Tensor) and output.ndim in (3, 4) and output.requires_grad:
                given = inputs[0] if inputs and isinstance(inputs[0], Tensor) else None
                side = None if given is None else side_of(given, size)
                calls.append(Call(name, output, side, len(calls)))

        return record

    handles = [module.register_forward_hook(hook(name)) for name, module in network.named_modules()]
    try:
        with evaluation_mode(network), torch.enable_grad(), all_trainable(network):
            network(black_image(network, channels, size))
    finally:
        for handle in handles:
            handle.remove()
    return calls


class all_trainable:
    """Context in which all weights of a network require a gradient, frozen ones too."""

    def __init__(self, network: nn.Module) -> None:
        self.frozen = [w for w in network.parameters() if w.is_floating_point() and not w.requires_grad]

    def __enter__(self) -> None:
        for weight in self.frozen:
            weight.requires_grad_(True)

    def __exit__(self, *_: object) -> None:
        for weight in self.frozen:
            weight.requires_grad_(False)


def side_of(output: Tensor, size: int) -> int | None:
    """Return the side of a square map ``b d h h`` or ``b h h d``, at most ``size``; None for anything else."""
    if output.ndim != 4:
        return None
    side = output.shape[2] if output.shape[2] == output.shape[3] or output.shape[1] == output.shape[2] else None
    return side if side is not None and side <= size else None


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


def unused_modules(network: nn.Module, output: Tensor) -> tuple[list[str], list[nn.Parameter]]:
    """List the highest layers none of whose weights ``output`` depends on, and the other weights without effect."""
    weights = [w for w in network.parameters() if w.requires_grad]
    gradients = torch.autograd.grad(output.sum(), weights, allow_unused=True)
    used = {id(w) for w, gradient in zip(weights, gradients, strict=True) if gradient is not None}
    names: list[str] = []
    loose: list[nn.Parameter] = []

    def visit(module: nn.Module, name: str) -> None:
        own = list(module.parameters())
        if name and own and not any(id(weight) in used for weight in own):
            names.append(name)
            return
        loose.extend(w for w in module.parameters(recurse=False) if w.requires_grad and id(w) not in used)
        for child, part in module.named_children():
            visit(part, f"{name}.{child}".lstrip("."))

    visit(network, "")
    return names, loose


def check_complete(network: nn.Module, unused: Sequence[str], last: Tensor, channels: int, size: int) -> None:
    """Refuse stages that end before the network does: layers after them return maps or tokens of their size, too.

    Layers after the stages are left out. That is right for a classifier, and for a decoder, whose maps grow.

    Args:
        network: The network.
        unused: Names of the highest layers that the stages do not need.
        last: Last stage ``1 d h w`` of a black image.
        channels: Channels of that image.
        size: Its side.

    Raises:
        OptionError: Such layers have more than a quarter of the weights.
    """
    most = last.shape[2] * last.shape[3] + MOST_PREFIX_TOKENS
    same_size = [call.name for call in trace(network, channels, size) if 1 < positions(call.output, size) <= most]
    body = [name for name in unused if name.partition(".")[0] not in CLASSIFIERS]
    lost = [name for name in body if any(f"{call}.".startswith(f"{name}.") for call in same_size)]
    counts = {name: sum(w.numel() for w in part.parameters()) for name, part in network.named_modules() if name}
    share = sum(counts[name] for name in lost) / max(
        1, sum(w.numel() for w in network.parameters()) - sum(counts.get(name, 0) for name in CLASSIFIERS)
    )
    if share > LEFT_OUT:
        raise OptionError(
            f"the stages of {type(network).__name__} to use all its layers but the classifier",
            got=f"stages that need none of {lost[0]!r} and others, {share:.0%} of the weights",
            fix="Name layers that return maps b d h w or tokens b n d: wrap(module, stages=[...]), the last of them "
            "near the end of the network.",
        )


def positions(output: Tensor, size: int) -> int:
    """Count the pixels of a map or the tokens of an image.

    Example:
        >>> positions(torch.zeros(1, 8, 4, 4), 32), positions(torch.zeros(1, 17, 8), 32)
        (16, 17)
    """
    return output.shape[1] if output.ndim == 3 else (side_of(output, size) or 0) ** 2


def smallest_side(works: Callable[[int], bool], size: int) -> int:
    """Find the smallest side of images with which ``works`` is true, by bisection from ``size`` downwards."""
    low, high = 0, size
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if works(middle) else (middle, high)
    return high


def runs(function: Callable[[], object]) -> bool:
    """Return whether a function raises no error."""
    try:
        function()
    except (RuntimeError, ValueError, AssertionError, LookupError, PretextkitError, ZeroDivisionError):
        return False
    except (TypeError, AttributeError):  # the network reads a list of layers, or an attribute, that was left out
        return False
    return True
