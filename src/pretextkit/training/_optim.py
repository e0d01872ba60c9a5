"""Optimizers, their parameter groups, and the learning-rate schedule."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pretextkit.errors import OptionError, unknown_name

__all__ = [
    "LARS",
    "OptimizerName",
    "build_optimizer",
    "default_learning_rate",
    "default_weight_decay",
    "parameter_groups",
    "warmup_cosine",
]

OptimizerName = Literal["adamw", "sgd", "lars"]

_DEFAULTS: dict[OptimizerName, tuple[float, float]] = {"adamw": (1e-3, 0.05), "sgd": (0.06, 5e-4), "lars": (0.3, 1e-6)}
"""Learning rate (for a batch of 256, where it scales) and weight decay."""


class LARS(torch.optim.Optimizer):
    """SGD with momentum whose step in each layer is proportional to the norm of the layer's weights.

    For batches of thousands (You et al. 2017, arXiv 1708.03888). Groups with ``trust=False`` take plain SGD steps:
    BatchNorm and biases, as in SimCLR (Chen et al. 2020, arXiv 2002.05709).

    Args:
        params: Parameters or groups.
        lr: Learning rate.
        momentum: Factor on the velocity of the step before.
        weight_decay: Factor of the weights that are added to the gradient, before the step is scaled.
        coefficient: Size of a layer's step relative to its weights.

    Example:
        >>> weight = nn.Parameter(torch.tensor([3.0, 4.0]))
        >>> optimizer = LARS([weight], lr=1.0, momentum=0.0, coefficient=0.1)
        >>> weight.grad = torch.tensor([0.0, 2.0])
        >>> optimizer.step()  # a step of 0.1 * |w| = 0.5 along the gradient
        >>> weight.data
        tensor([3.0000, 3.5000])
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        *,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        coefficient: float = 1e-3,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "coefficient": coefficient,
            "trust": True,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Update all parameters. ``closure``, if given, recomputes the loss, and its value is returned."""
        with torch.enable_grad():
            loss = None if closure is None else closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._update(weight, group)
        return loss

    def _update(self, weight: Tensor, group: dict[str, Any]) -> None:
        direction = weight.grad + group["weight_decay"] * weight
        if group["trust"]:
            weights, length = weight.norm(), direction.norm()
            ratio = group["coefficient"] * weights / length
            direction = direction * torch.where((weights > 0) & (length > 0), ratio, torch.ones_like(ratio))
        velocity = self.state[weight].setdefault("velocity", torch.zeros_like(weight))
        velocity.mul_(group["momentum"]).add_(direction)
        weight.sub_(group["lr"] * velocity)


def parameter_groups(module: nn.Module) -> list[dict[str, Any]]:
    """Split the trainable parameters into a group with weight decay and a group without.

    Vectors (biases, BatchNorm's scales and shifts) have no weight decay and no trust scaling in LARS.

    Example:
        >>> [len(group["params"]) for group in parameter_groups(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)))]
        [1, 3]
    """
    trainable = [weight for weight in module.parameters() if weight.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [weight for weight in trainable if weight.ndim > 1]},
        {"params": [weight for weight in trainable if weight.ndim <= 1], "weight_decay": 0.0, "trust": False},
    ]
    return [group for group in groups if group["params"]]


def default_learning_rate(name: OptimizerName, batch_size: int) -> float:
    """Return 0.001 for AdamW, and a rate proportional to the batch for SGD and LARS.

    The linear rule is that of Goyal et al. 2017 (arXiv 1706.02677).

    Raises:
        UnknownNameError: There is no optimizer of that name.

    Example:
        >>> default_learning_rate("lars", 1024)
        1.2
    """
    rate, _ = _defaults(name)
    return rate if name == "adamw" else rate * batch_size / 256


def default_weight_decay(name: OptimizerName) -> float:
    """Return the weight decay of an optimizer.

    Raises:
        UnknownNameError: There is no optimizer of that name.

    Example:
        >>> default_weight_decay("adamw")
        0.05
    """
    _, decay = _defaults(name)
    return decay


def build_optimizer(
    name: OptimizerName,
    groups: list[dict[str, Any]],
    learning_rate: float,
    weight_decay: float | None = None,
) -> torch.optim.Optimizer:
    """Build an optimizer over parameter groups; ``weight_decay=None`` is the default of that optimizer.

    Raises:
        UnknownNameError: There is no optimizer of that name.
        OptionError: There are no groups, because every parameter is frozen.

    Example:
        >>> build_optimizer("sgd", parameter_groups(nn.Linear(2, 2)), 0.1).param_groups[1]["weight_decay"]
        0.0
    """
    _, default = _defaults(name)
    if not groups:
        raise OptionError(
            "at least one trainable weight",
            got="requires_grad=False on all weights",
            fix="Call requires_grad_(True) on some weights.",
        )
    decay = default if weight_decay is None else weight_decay
    if name == "lars":
        return LARS(groups, learning_rate, weight_decay=decay)
    weights = [weight for group in groups for weight in group["params"]]
    # Fused kernels take plain tensors of real numbers on these devices.
    fused = all(
        weight.device.type in ("cpu", "cuda") and type(weight) in (Tensor, nn.Parameter) and not weight.is_complex()
        for weight in weights
    )
    if name == "sgd":
        return torch.optim.SGD(groups, learning_rate, momentum=0.9, weight_decay=decay, fused=fused)
    return torch.optim.AdamW(groups, learning_rate, weight_decay=decay, fused=fused)


def warmup_cosine(step: int, steps: int, warmup: int) -> float:
    """Return the factor on the learning rate at ``step`` of ``steps``: a linear rise, then half a cosine to zero.

    Example:
        >>> [round(warmup_cosine(step, 10, 2), 2) for step in (0, 1, 2, 6, 9)]
        [0.5, 1.0, 1.0, 0.5, 0.04]
    """
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def _defaults(name: OptimizerName) -> tuple[float, float]:
    if name not in _DEFAULTS:
        raise unknown_name("optimizer", name, list(_DEFAULTS))
    return _DEFAULTS[name]
