"""Backbones by the names of torchvision and timm, such as ``"timm/convnext_atto"``."""

from __future__ import annotations

import difflib
import functools
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from pretextkit._validation import check_int
from pretextkit.contracts import SpatialBackbone
from pretextkit.errors import OptionError, PluginError, UnknownNameError, reason
from pretextkit.models._dry_run import input_channels
from pretextkit.models._start import RANDOM, Start, set_start
from pretextkit.models._wrap import backbone_of, replace_layer
from pretextkit.registries import backbones

__all__ = ["LibraryBackbone"]


class LibraryBackbone(SpatialBackbone):
    """Class that builds the backbone of one model of a library: ``pretextkit.backbones["timm/convnext_atto"]``.

    Args:
        weights: Name of trained weights, ``"DEFAULT"`` for the library's choice; None for random weights. The library
            downloads them. Most are trained with labels, and the attribute ``starts_from`` of the backbone says so.
        in_channels: Input channels.
        size: Side in pixels of the image of the dry run; None tries usual sizes from 64 on.
        stages: Names of the layers whose outputs are the stages; None finds them.
        options: Further options of the model, such as ``patch_size=4``, ``img_size=32`` for a transformer of timm.

    Raises:
        OptionError: The library does not take an option, or has no such weights.
    """

    model: ClassVar[str]

    def __new__(
        cls,
        *,
        weights: str | None = None,
        in_channels: int = 3,
        size: int | None = None,
        stages: Sequence[str] | None = None,
        **options: Any,
    ) -> Any:
        in_channels = check_int("in_channels", in_channels, fix="For example 3 (color) or 1 (gray).")
        try:
            network, start = cls.build(weights, in_channels, options)
        except (TypeError, ValueError, AssertionError) as error:
            if isinstance(error, OptionError):
                raise
            raise OptionError(
                f"options that {cls.__name__} takes", got=reason(error), fix="Correct or leave out that option."
            ) from error
        backbone = backbone_of(network, stages, size)
        set_start(backbone, start)
        given = {"in_channels": in_channels, "size": size, "stages": stages, **options}
        backbone.built_by = cls.__name__, given
        return backbone

    @classmethod
    @abstractmethod
    def build(cls, weights: str | None, in_channels: int, options: Mapping[str, Any]) -> tuple[nn.Module, Start]:
        """Build the network, and describe its weights."""

    def stages(self, images: Tensor) -> tuple[Tensor, ...]:
        raise NotImplementedError  # the instances are of the class that wrap returns


class TorchvisionBackbone(LibraryBackbone):
    """Class that builds the backbone of one model of torchvision."""

    @classmethod
    def build(cls, weights: str | None, in_channels: int, options: Mapping[str, Any]) -> tuple[nn.Module, Start]:
        from torchvision import models  # imported here because the import takes seconds

        if weights is None:
            network = models.get_model(cls.model, weights=None, **options)
            if in_channels != input_channels(network):
                set_input_channels(network, in_channels)
            return network, RANDOM
        known = models.get_model_weights(cls.model)
        if weights not in known.__members__:
            raise no_such_weights(cls.__name__, weights, ["DEFAULT", *(each.name for each in known)])
        if in_channels != 3:
            raise OptionError(
                "in_channels=3 with weights, which are made for 3 channels",
                got=in_channels,
                fix="Leave in_channels out: gray images are repeated to three channels.",
            )
        return models.get_model(cls.model, weights=known[weights], **options), Start.of_torchvision(known[weights])


class TimmBackbone(LibraryBackbone):
    """Class that builds the backbone of one model of timm."""

    @classmethod
    def build(cls, weights: str | None, in_channels: int, options: Mapping[str, Any]) -> tuple[nn.Module, Start]:
        timm = import_timm()
        name, _, tag = cls.model.partition(".")
        if weights not in (None, "DEFAULT"):
            tags = [each.partition(".")[2] for each in timm.list_pretrained(f"{name}.*")]
            if weights not in tags:
                raise no_such_weights(cls.__name__, weights, ["DEFAULT", *tags])
            tag = weights
        full = f"{name}.{tag}" if tag else name
        create = functools.partial(timm.create_model, full, pretrained=weights is not None, in_chans=in_channels)
        any_size = {"dynamic_img_size": True, "dynamic_img_pad": True}
        try:
            network = create(**{**any_size, **options})
        except TypeError:  # only transformers have these options
            network = create(**options)
        return network, RANDOM if weights is None else Start.of_timm(network.pretrained_cfg)


@functools.cache
def find_torchvision(model: str) -> type[LibraryBackbone]:
    """Find the class for a model of torchvision."""
    from torchvision import models

    known = models.list_models(module=models)
    if model not in known:
        raise unknown_model("torchvision", model, known, "torchvision.models.list_models(module=torchvision.models)")
    return type(f"torchvision/{model}", (TorchvisionBackbone,), {"model": model})


@functools.cache
def find_timm(model: str) -> type[LibraryBackbone]:
    """Find the class for a model of timm, also with the tag of its weights."""
    timm = import_timm()
    if not timm.is_model(model):
        raise unknown_model("timm", model, timm.list_models(), "timm.list_models()")
    return type(f"timm/{model}", (TimmBackbone,), {"model": model})


def import_timm() -> Any:
    """Import timm.

    Raises:
        PluginError: It is not installed.
    """
    try:
        import timm
    except ImportError as error:
        raise PluginError(
            "Backbones of timm need timm, which is not installed.", fix='Run: pip install "pretextkit[timm]"'
        ) from error
    return timm


def set_input_channels(network: nn.Module, channels: int) -> None:
    """Replace the first convolution of a network by a new one for another number of channels."""
    name, old = next((n, m) for n, m in network.named_modules() if isinstance(m, nn.Conv2d))
    new = nn.Conv2d(
        channels, old.out_channels, old.kernel_size, old.stride, old.padding, old.dilation,  # type: ignore[arg-type]
        bias=old.bias is not None, padding_mode=old.padding_mode,
    )  # fmt: skip
    with torch.no_grad():
        nn.init.normal_(new.weight, std=float(old.weight.std()))  # as the model's own initialization spreads
        if new.bias is not None and old.bias is not None:
            new.bias.copy_(old.bias)
    replace_layer(network, name, new)


def unknown_model(library: str, model: str, known: Sequence[str], listed: str) -> UnknownNameError:
    """Build the error for a model that a library does not have, with the most similar names."""
    near = difflib.get_close_matches(model.lower().replace("-", "_"), known, n=3)
    hint = f"Did you mean {' or '.join(repr(f'{library}/{each}') for each in near)}? " if near else ""
    fix = f"{hint}{listed} lists all {len(known)}."
    return UnknownNameError(f"the name of a model of {library}", got=repr(model), fix=fix)


def no_such_weights(name: str, weights: object, known: Sequence[str]) -> OptionError:
    """Build the error for unknown weights of a model."""
    return OptionError(f"weights of {name}", got=repr(weights), fix=f"Known: {', '.join(known)}; None is random.")


backbones.add_library("timm", find_timm)
backbones.add_library("torchvision", find_torchvision)
