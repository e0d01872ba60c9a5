"""Recipes of modules: registered name and arguments, from which an equal module is built."""

from __future__ import annotations

import platform
import sys
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any, cast

import torch
from torch import nn

from pretextkit._arguments import Arguments, decode, encode
from pretextkit._modules import unwrap
from pretextkit._starting_point import KEY, starting_point
from pretextkit.errors import CheckpointError, PretextkitError, UnknownNameError, reason
from pretextkit.registries import Registry, backbones

__all__ = ["backbone_header", "build_module", "remember_training", "training_of", "try_recipe", "why_unbuildable"]


def backbone_header(
    backbone: nn.Module, trained: Mapping[str, Any] | None = None, *, recorded: bool = True
) -> dict[str, Any]:
    """Describe a backbone in plain data: its recipe, its start, its training, and the versions at work.

    Args:
        backbone: Backbone, perhaps compiled.
        trained: How it was trained; by default what :func:`remember_training` noted.
        recorded: Whether to add the recipe.

    Example:
        >>> from pretextkit.models import SmallCNN
        >>> backbone_header(SmallCNN())["backbone"]["name"]
        'small-cnn'
    """
    network = unwrap(backbone)
    return {
        "format": 1,
        "kind": "backbone",
        "backbone": try_recipe(network, backbones) if recorded else None,
        "class": type(network).__name__,
        "trained": dict(training_of(network) if trained is None else trained),
        KEY: starting_point(network),
        "versions": {
            "pretextkit": sys.modules["pretextkit"].__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    }


def remember_training(backbone: nn.Module, trained: Mapping[str, Any]) -> None:
    """Note in a backbone how it was trained, in plain data that a saved file repeats."""
    unwrap(backbone).__dict__["_trained"] = dict(trained)


def training_of(backbone: nn.Module) -> dict[str, Any]:
    """Return what :func:`remember_training` noted; empty before."""
    return dict(unwrap(backbone).__dict__.get("_trained", {}))


def try_recipe(module: Any, registry: Registry[Any]) -> dict[str, Any] | None:
    """Describe how to build a module: plain data, or None if that is not possible.

    Example:
        >>> from pretextkit import backbones
        >>> try_recipe(backbones["small-cnn"](in_channels=1), backbones)
        {'name': 'small-cnn', 'positional': [], 'named': {'in_channels': 1}, 'distribution': ''}
    """
    network = unwrap(module)
    if why_unrecorded(network, registry):
        return None
    arguments = cast(Arguments, network._arguments)
    name = registry.name_of(_class(network))
    if built_by := getattr(network, "built_by", None):
        name, options = built_by
        arguments = Arguments([], {option: encode(value) for option, value in options.items()}, ())
    return {
        "name": name,
        "positional": arguments.positional,
        "named": arguments.named,
        "distribution": _distribution(name, registry),
    }


def why_unrecorded(network: Any, registry: Registry[Any]) -> str:
    """Say why a module has no recipe; an empty text if it has."""
    kind = _class(network)
    if getattr(network, "built_by", None):
        return ""
    arguments = getattr(network, "_arguments", None)
    if registry.name_of(kind) is None:
        return f"a {kind.__name__}, which is not registered as a {registry.kind}"
    if arguments is None:
        return f"a {kind.__name__} that was made without its constructor"
    if arguments.unrecordable:
        return f"a {kind.__name__} built with {' and '.join(arguments.unrecordable)}, which is no plain data"
    return ""


def why_unbuildable(module: nn.Module, registry: Registry[Any]) -> str:
    """Say why a module cannot be built again with the shapes of its weights; an empty text if it can.

    The module is built once to find out, because it may have been changed after its constructor.
    """
    network = unwrap(module)
    if why := why_unrecorded(network, registry):
        return why
    try:
        built = build_module(cast("dict[str, Any]", try_recipe(network, registry)), registry)
    except Exception as error:  # a constructor of a plug-in can raise anything
        return f"a {type(network).__name__} that its recorded arguments do not build ({reason(error)})"
    shapes, others = ({name: tuple(value.shape) for name, value in _tensors(m).items()} for m in (built, network))
    different = sorted(name for name in {*shapes, *others} if shapes.get(name) != others.get(name))
    if different:
        return f"a {type(network).__name__} that was changed after it was built, at {different[0]}"
    return ""


def build_module(recipe: Mapping[str, Any], registry: Registry[Any]) -> nn.Module:
    """Build a module from its recipe, in evaluation mode; the global random generator stays as it is.

    Raises:
        CheckpointError: No class of that name is registered or installed, or the class refuses the arguments.

    Example:
        >>> from pretextkit import heads
        >>> build_module({"name": "linear", "positional": [4, 2], "named": {}}, heads)
        LinearHead(
          (linear): Linear(in_features=4, out_features=2, bias=True)
        )
    """
    name, origin = recipe["name"], recipe.get("distribution") or ""
    try:
        cls = registry[name]
    except UnknownNameError as error:
        fix = f"Install {origin}" if origin else "Import the module that registers it"
        raise CheckpointError(
            f"the {registry.kind} {name!r} to be registered", got="no class of that name", fix=f"{fix}, and load again."
        ) from error
    positional = [decode(value) for value in recipe["positional"]]
    named = {option: decode(value) for option, value in recipe["named"].items()}
    try:
        with torch.random.fork_rng(devices=[]):
            module: nn.Module = cls(*positional, **named)
    except (TypeError, PretextkitError) as error:
        raise CheckpointError(
            f"the {registry.kind} {name!r} to take the arguments in the file",
            got=reason(error),
            fix=f"Install the version that wrote the file{f', {origin}' if origin else ''}.",
        ) from error
    return module.eval()


def _class(network: nn.Module) -> type[nn.Module]:
    kind = type(network)
    return kind.__bases__[-1] if hasattr(network, "unshard") else kind  # fully_shard makes a subclass


def _distribution(name: str | None, registry: Registry[Any]) -> str:
    """Name the distribution of a plug-in with its version; empty for pretextkit's own classes and for scripts."""
    found = [point.dist for point in entry_points(group=registry.group) if point.name == name and point.dist]
    return f"{found[0].name} {found[0].version}" if found else ""


def _tensors(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value for name, value in module.state_dict().items() if isinstance(value, torch.Tensor)}
