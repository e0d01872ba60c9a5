"""Layers that the stages of a network do not need."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pretextkit.errors import OptionError
from pretextkit.models._dry_run import side_of, trace
from pretextkit.models._stage_search import CLASSIFIERS, MOST_PREFIX_TOKENS

__all__ = [
    "check_complete",
    "unused_modules",
]

LEFT_OUT = 0.25
"""Share of the weights that may be after the last stage, beside the classifier."""


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
