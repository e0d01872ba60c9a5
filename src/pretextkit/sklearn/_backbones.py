"""Backbones of estimators: a module or function as it is, or the name of a registered backbone."""

from __future__ import annotations

import copy
from typing import Any

from pretextkit._seeding import derived_seed, seeded
from pretextkit.errors import OptionError
from pretextkit.evaluation._features import Model
from pretextkit.registries import backbones

__all__ = ["built_backbone"]


def built_backbone(backbone: Any, seed: int) -> Model:
    """Build a backbone by its name, or copy a module, so that fitting leaves the caller's module alone.

    Raises:
        UnknownNameError: No backbone has this name.
        OptionError: ``backbone`` is something else.

    Example:
        >>> type(built_backbone("small-cnn", 0)).__name__
        'SmallCNN'
    """
    if isinstance(backbone, str):
        with seeded(derived_seed(seed, "backbone")):
            return backbones[backbone]()
    if isinstance(backbone, type) or not callable(backbone):
        got = f"the class {backbone.__name__}" if isinstance(backbone, type) else type(backbone).__name__
        fix = "Pass an instance, or a name such as 'resnet18'."
        raise OptionError("a module, a function from images to features, or the name of a backbone", got=got, fix=fix)
    copied: Model = copy.deepcopy(backbone)
    return copied
