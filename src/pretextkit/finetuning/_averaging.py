"""Average of the weights before and after a fine-tuning (Wortsman et al. 2022, arXiv 2109.01903)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pretextkit._recipes import training_of
from pretextkit._starting_point import starting_point
from pretextkit._validation import check_float
from pretextkit.errors import OptionError

__all__ = [
    "AverageChoice",
    "check_average",
    "default_average",
    "is_pretrained",
    "mix_weights",
    "state_of",
]

AverageChoice = float | Literal["auto"]
"""Part of the trained weights in the average, or ``"auto"``."""


def check_average(average: Any) -> AverageChoice:
    """Return a part from 0 to 1, or ``"auto"``.

    Raises:
        OptionError: It is something else.
    """
    fix = "1 keeps the trained weights, 0.5 is the mean of both."
    if isinstance(average, str):
        if average == "auto":
            return "auto"
        raise OptionError("average to be a number or 'auto'", got=repr(average), fix=fix)
    return check_float("average", average, "[0, 1]", fix=fix)


def default_average(count: int, classes: int) -> float:
    """Return the part of the trained weights for ``count`` labels of a pretrained backbone.

    Labels are fitted in many ways, the more the fewer they are. Of these, weights close to the pretrained ones classify
    other images best: 0.25 for fewer than ten labels a class, in the mean, 0.5 for fewer than a hundred, then 0.75.

    Example:
        >>> [default_average(count, classes=10) for count in (99, 100, 999, 1000)]
        [0.25, 0.5, 0.5, 0.75]
    """
    each = count / classes
    return 0.25 if each < 10 else 0.5 if each < 100 else 0.75


def state_of(module: nn.Module) -> dict[str, Tensor]:
    """Copy the weights and buffers of a module."""
    return {name: values.clone() for name, values in module.state_dict().items()}


@torch.no_grad()
def mix_weights(module: nn.Module, start: Mapping[str, Tensor], end: Mapping[str, Tensor], part: float) -> None:
    """Set the weights and the statistics of BatchNorm to ``(1 - part) * start + part * end``.

    Statistics of a start that has seen no images are left out. Values that did not change stay bit-identical; counts
    are those of the end.

    Example:
        >>> module = nn.BatchNorm1d(1)
        >>> start, end = {"running_mean": torch.tensor([0.0])}, {"running_mean": torch.tensor([1.0])}
        >>> mix_weights(module, start, end, 0.75)
        >>> module.running_mean
        tensor([0.7500])
    """
    own = module.state_dict()
    for name, values in end.items():
        kept = torch.equal(start[name], values) or (part > 0 and _is_initial(name, start))
        mixed = values.is_floating_point() and not kept
        own[name].copy_(torch.lerp(start[name], values, part) if mixed else values)


def _is_initial(name: str, state: Mapping[str, Tensor]) -> bool:
    """Whether a statistic is that of a BatchNorm layer before its first batch."""
    layer = name.removesuffix("running_mean").removesuffix("running_var")
    mean, variance = state.get(f"{layer}running_mean"), state.get(f"{layer}running_var")
    if layer == name or mean is None or variance is None:
        return False
    return not bool(mean.any()) and bool((variance == 1).all())


def is_pretrained(backbone: nn.Module) -> bool:
    """Whether a backbone was trained before, as its record, its origin or its BatchNorm layers say.

    Example:
        >>> from pretextkit.models import SmallCNN
        >>> backbone = SmallCNN()
        >>> before = is_pretrained(backbone)
        >>> _ = backbone.train()(torch.rand(2, 3, 32, 32))
        >>> before, is_pretrained(backbone)
        (False, True)
    """
    if training_of(backbone) or starting_point(backbone):
        return True
    counts = (getattr(module, "num_batches_tracked", None) for module in backbone.modules())
    return any(isinstance(count, Tensor) and int(count) > 0 for count in counts)
