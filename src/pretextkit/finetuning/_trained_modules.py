"""Trained modules of a backbone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import nn

from pretextkit._color import as_float
from pretextkit._modules import not_built, refuse_meta, refuse_task, unwrap
from pretextkit._seeding import derived_seed, seeded
from pretextkit.contracts import SpatialBackbone
from pretextkit.data._sources import ImageSource
from pretextkit.errors import OptionError, unknown_name
from pretextkit.evaluation._stages import stage_modules

__all__ = ["Trainable", "check_module", "find_trained_modules", "restored"]

Trainable = Literal["none", "all"] | Sequence[str]
"""Trained part of the backbone: ``"none"``, ``"all"`` or names of submodules or stages."""


def find_trained_modules(backbone: nn.Module, trainable: Trainable, source: ImageSource, seed: int) -> list[nn.Module]:
    """Find the modules of a backbone that ``trainable`` names.

    Raises:
        UnknownNameError: The backbone has no submodule of that name.
        OptionError: A named module has no weights.
    """
    modules = _named_modules(backbone, trainable, source, seed)
    for module in modules:
        if next(module.parameters(), None) is None:
            got = f"a {type(module).__name__} without any"
            fix = "Name modules with weights in trainable, or use trainable='none'."
            raise OptionError("trained modules with weights", got=got, fix=fix)
    return modules


def check_module(module: Any, what: str) -> None:
    """Refuse what is no module, and modules without data.

    Raises:
        OptionError: It is no ``nn.Module``.
    """
    if not isinstance(module, nn.Module):
        error = not_built(module, f"{what} to be an nn.Module", "Wrap it in a module.")
        if what == "head":
            error.fix = "Pass a head, such as pretextkit.models.LinearHead(d, k), or the name 'linear'."
        raise error
    refuse_task(module, f"a {what}")
    refuse_meta(module, f"the {what}")


@contextmanager
def restored(backbone: nn.Module, classifier: nn.Module) -> Iterator[None]:
    """Restore ``requires_grad`` of the backbone and the modes of all modules, also after an error."""
    gradients = [(weight, weight.requires_grad) for weight in backbone.parameters()]
    modes = [(module, module.training) for module in classifier.modules() if hasattr(module, "training")]
    try:
        yield
    finally:
        for weight, requires_grad in gradients:
            weight.requires_grad_(requires_grad)
        for module, mode in modes:
            module.training = mode


def _named_modules(backbone: nn.Module, trainable: Trainable, source: ImageSource, seed: int) -> list[nn.Module]:
    if trainable == "none":
        return []
    if trainable == "all":
        return [backbone] if next(backbone.parameters(), None) is not None else []
    network = unwrap(backbone)
    modules = {**dict(backbone.named_modules()), **dict(network.named_modules())}  # with and without the wrapper's name
    if isinstance(trainable, str):
        raise unknown_name(
            "choice of trained modules", trainable, ["none", "all"], "Put the name of one submodule into a list."
        )
    named = {name: [module] for name, module in modules.items()}
    if isinstance(network, SpatialBackbone) and not set(trainable) <= set(named):
        with seeded(derived_seed(seed, "stages")):  # a loader draws from the global generator
            images = next(iter(source.batches([torch.tensor([0])]))).images
        named = {**stage_modules(network, as_float(images)), **named}
    for name in trainable:
        if name not in named:
            inner = dict(network.named_modules())
            known = [each for each in named if each and (each in inner or each not in modules)]
            raise unknown_name(f"submodule of {type(network).__name__}", name, known)
    return list(dict.fromkeys(module for name in trainable for module in named[name]))
