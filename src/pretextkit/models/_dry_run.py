"""Dry runs of a network: which images it takes, and what its layers return."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pretextkit._evaluation_mode import evaluation_mode
from pretextkit._modules import module_device, module_dtype
from pretextkit._validation import check_int
from pretextkit.errors import OptionError, PretextkitError, reason

__all__ = [
    "Call",
    "all_trainable",
    "black_image",
    "dry_run_sizes",
    "input_channels",
    "runs",
    "side_of",
    "smallest_side",
    "trace",
]

SIZES = (64, 32, 28, 96, 128, 224, 256, 299, 384)
"""Sides of the images of a dry run, in the order of trial."""


class Call(NamedTuple):
    """Output of a layer in the dry run, and the side of the map that it got."""

    name: str
    output: Tensor
    input_side: int | None
    order: int


def dry_run_sizes(network: nn.Module, channels: int, size: int | None) -> Iterator[int]:
    """Yield the sizes of images that the network takes: first the only one that timm states for it, then others.

    Raises:
        OptionError: It takes none of the sizes.
    """
    sizes = _trials(network) if size is None else [check_int("size", size, fix="For example size=64.")]
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


def _trials(network: nn.Module) -> list[int]:
    """List the sizes to try. A network for one size may take a wrong one without an error, by broadcasting."""
    config = getattr(network, "pretrained_cfg", None)
    if not isinstance(config, Mapping) or not config.get("fixed_input_size"):
        return list(SIZES)
    return list(dict.fromkeys((config["input_size"][-1], *SIZES)))


def black_image(network: nn.Module, channels: int, side: int) -> Tensor:
    """Make one image for a dry run, on the device and in the dtype of the network."""
    return torch.zeros(1, channels, side, side, device=module_device(network), dtype=module_dtype(network))


def input_channels(network: nn.Module) -> int:
    """Return the number of channels that the first convolution takes; 3 without a convolution."""
    return next((m.in_channels for m in network.modules() if isinstance(m, nn.Conv2d)), 3)


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
