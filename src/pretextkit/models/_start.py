"""Where the weights of a network come from: at random, or trained before, perhaps with labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from pretextkit.contracts import Backbone
from pretextkit.errors import DataWarning, OptionError, warn
from pretextkit.models._dry_run import input_channels

__all__ = ["Start", "is_trained", "set_start"]


class Start(NamedTuple):
    """Origin of weights, and the normalization of their training if it is known."""

    text: str
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None

    @classmethod
    def of(cls, module: nn.Module, weights: Any, normalization: Any) -> Start:
        """Describe the weights of a module from what its caller says, and from what timm's networks carry.

        Raises:
            OptionError: ``weights`` is no member of a torchvision enum, or ``normalization`` is no pair or has another
                number of channels.
        """
        start = RANDOM
        if weights is not None:
            start = cls.of_torchvision(weights)
        elif is_trained(module):
            config = getattr(module, "pretrained_cfg", None)
            start = cls(f"trained weights of {type(module).__name__}") if config is None else cls.of_timm(config)
        return start if normalization is None else cls(start.text, *checked(normalization, input_channels(module)))

    @classmethod
    def of_torchvision(cls, weights: Any) -> Start:
        """Describe weights of torchvision, with the mean and std of ``weights.transforms()``."""
        if not (hasattr(weights, "transforms") and hasattr(weights, "meta")):
            raise OptionError(
                "weights to be a member of a torchvision enum",
                got=repr(weights),
                fix="For example torchvision.models.ResNet50_Weights.IMAGENET1K_V2, or leave it out.",
            )
        transforms = weights.transforms()
        count = len(weights.meta.get("categories") or ())
        labels = "ImageNet labels" if count == 1000 else f"{count} labels" if count else "other labels"
        network = type(weights).__name__.removesuffix("_Weights")
        return cls(f"torchvision {network} {weights.name}, trained on {labels}", transforms.mean, transforms.std)

    @classmethod
    def of_timm(cls, config: Any) -> Start:
        """Describe weights of timm, with the mean and std of their configuration."""
        get = config.get if isinstance(config, dict) else lambda key, default=None: getattr(config, key, default)
        name, tag, count = get("architecture", "network"), get("tag", ""), get("num_classes", 0)
        if not count:  # weights of DINO, MAE or CLIP have no classifier
            trained = "trained without classes"
        elif "in1k" in tag or "in12k" in tag or "in21k" in tag or "in22k" in tag:
            trained = "trained on ImageNet labels"
        else:
            trained = f"trained on labels of {count} classes"
        return cls(f"timm {name}{'.' if tag else ''}{tag}, {trained}", get("mean"), get("std"))


RANDOM = Start("random weights")


def checked(normalization: Any, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and std of a pair of equally long rows of numbers, one for each channel or one for all."""
    try:
        mean, std = (tuple(float(value) for value in row) for row in normalization)
        if len(mean) != len(std) or min(std, default=0) <= 0:
            raise ValueError
    except (TypeError, ValueError):
        raise OptionError(
            "normalization to be a pair (mean, std), each with one number per channel and std above 0",
            got=repr(normalization),
            fix="For example ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)).",
        ) from None
    if len(mean) not in ((1, 3) if channels == 1 else (1, channels)):
        raise OptionError(
            f"a normalization with {channels} numbers each, one per channel",
            got=f"{len(mean)}",
            fix="One number each stands for all channels.",
        )
    return mean, std


def set_start(backbone: Backbone, start: Start) -> None:
    """Set the normalization and the attribute ``starts_from`` of a backbone.

    The normalization of weights for color does not fit other channels: they are left to be measured.
    """
    channels = backbone.normalization.channels
    backbone.starts_from = start.text
    if start.mean is None or start.std is None:
        if start is not RANDOM:
            warn(
                f"The start is {start.text}, and the normalization of their training is unknown. "
                "Pass wrap(module, normalization=(mean, std)); ((0,), (1,)) if it took images in [0, 1].",
                DataWarning,
                see="weights-with-an-unknown-normalization",
            )
        return
    mean, std = torch.tensor(start.mean), torch.tensor(start.std)
    if channels == 1:  # weights for color, summed over the channels
        mean, std = mean.mean(0, keepdim=True), std.mean(0, keepdim=True)
    if len(mean) in (1, channels):  # else timm has repeated weights for color, and the bands are measured
        backbone.normalization.set(mean, std)


def is_trained(module: nn.Module) -> bool:
    """Return whether a norm layer of a network has other values than all new ones have: one number everywhere.

    Example:
        >>> is_trained(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)))
        False
    """
    for part in module.modules():
        if isinstance(part, _BatchNorm | nn.LayerNorm | nn.GroupNorm):
            values = [part.weight, part.bias, getattr(part, "running_mean", None)]
            if any(
                value is not None and value.numel() > 1 and bool((value != value.flatten()[0]).any())
                for value in values
            ):
                return True
    return False
