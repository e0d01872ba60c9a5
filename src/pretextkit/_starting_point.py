"""Where the weights of a network come from, if they were trained before: results and saved files say so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from pretextkit._modules import modules_behind, unwrap
from pretextkit.contracts import Backbone

__all__ = ["KEY", "restore_starting_point", "starting_point", "starts_note"]

KEY = "starts from"
"""Entry in the header of a saved file."""


def starting_point(model: Any) -> str | None:
    """Return where the weights of the backbone in a model come from; None for random weights, or without a backbone.

    Pretraining and fine-tuning do not change the answer: labels that trained the first weights are in the later ones.

    Args:
        model: Backbone, a task or another module around it, or a function that calls it.

    Example:
        >>> from pretextkit.models import SmallCNN
        >>> backbone = SmallCNN()
        >>> starting_point(backbone) is None
        True
        >>> backbone.starts_from = "torchvision ResNet18 IMAGENET1K_V1, trained on ImageNet labels"
        >>> starting_point(nn.Sequential(backbone, nn.Linear(256, 10)))
        'torchvision ResNet18 IMAGENET1K_V1, trained on ImageNet labels'
    """
    for module in modules_behind(model):
        for part in module.modules():
            if isinstance(part, Backbone) and part.starts_from != Backbone.starts_from:
                return part.starts_from
    return None


def starts_note(text: str | None) -> str:
    """Return the end of a result's line that says where the weights come from; empty for random weights.

    Example:
        >>> starts_note(None), starts_note("weights of a friend")
        ('', '; starts from weights of a friend')
    """
    return "" if text is None else f"; starts from {text}"


def restore_starting_point(module: nn.Module, header: Mapping[str, Any]) -> None:
    """Set where the weights of a backbone come from, as the header of a file says; an older header says nothing.

    Example:
        >>> from pretextkit.models import SmallCNN
        >>> backbone = SmallCNN()
        >>> restore_starting_point(backbone, {"starts from": "weights of a friend"})
        >>> backbone.starts_from
        'weights of a friend'
    """
    network = unwrap(module)
    if isinstance(network, Backbone) and KEY in header:
        network.starts_from = header[KEY] or Backbone.starts_from
