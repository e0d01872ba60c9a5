"""Forward hooks that capture the outputs of inner layers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from pretextkit._modules import eager_execution, is_scripted, module_dtype, unwrap
from pretextkit._validation import described
from pretextkit.contracts import SpatialBackbone
from pretextkit.errors import OptionError, ShapeError, unknown_name
from pretextkit.inference._trained_size import warn_of_larger_images

__all__ = ["Layers", "Model", "Reader", "capture_layers", "capture_maps", "last_map_layer"]

# Hooks work on every module. The FX feature extraction of torchvision (create_feature_extractor) rewrites the graph of
# the forward method, and fails on models whose control flow depends on the data.

Model = nn.Module | Callable[[Tensor], Tensor]
"""A module or function from images to features."""

Layers = Literal["last", "all"] | Sequence[str]
"""``"last"`` for the output, ``"all"`` for every stage, or names of layers."""

STAGE = re.compile(r"stage[1-9]\d*")
"""Name of a stage of a ``SpatialBackbone`` in a result."""

Reader = Callable[[Tensor], dict[str, Tensor]]
"""Function from images to the outputs of the chosen layers, by name."""


@contextmanager
def capture_layers(model: Model, layers: Layers, *, maps: bool) -> Iterator[Reader]:
    """Yield a function from images to the outputs of the chosen layers.

    Args:
        model: Module or function from images to features.
        layers: ``"last"``, ``"all"`` or names of layers.
        maps: Read the last map of a ``SpatialBackbone`` in place of its pooled output.

    Raises:
        UnknownNameError: The model has no layer of that name.
        OptionError: Inner layers of a function or of a TorchScript module are requested, or no requested layer returns
            a tensor.

    Warns:
        DataWarning: The first images are much larger than those on which the model was trained.

    Example:
        >>> import torch
        >>> from pretextkit.models import SmallCNN
        >>> with capture_layers(SmallCNN(), ["stage1"], maps=True) as read:
        ...     read(torch.rand(2, 3, 32, 32))["stage1"].shape
        torch.Size([2, 32, 16, 16])
    """
    network: Any = unwrap(model)  # stages and layers are those of the network inside wrappers, which runs eagerly
    dtype = module_dtype(model)
    sizes: set[tuple[int, ...]] = set()

    def own(images: Tensor) -> Tensor:
        if not sizes:
            warn_of_larger_images(network, images)
            sizes.add(tuple(images.shape[2:]))
        return images.to(dtype) if images.is_floating_point() and dtype != torch.float32 else images

    if layers == "last":
        if isinstance(network, SpatialBackbone) and maps:
            yield lambda images: {"last": network.feature_map(own(images))}
        else:
            yield lambda images: {"last": model(own(images))}
    elif isinstance(network, SpatialBackbone) and layers == "all":
        yield lambda images: _stages(network, own(images))
    elif not isinstance(layers, str) and list(layers) == ["last"]:
        with capture_layers(model, "last", maps=maps) as read:
            yield read
    elif isinstance(network, SpatialBackbone) and _stage_names(network, layers):
        with _stages_and_modules(network, layers, maps=maps, wrapped=cast(nn.Module, model)) as read:
            yield lambda images: read(own(images))
    elif isinstance(network, nn.Module):
        with _hooked(network, layers, wrapped=cast(nn.Module, model)) as read:
            yield lambda images: read(own(images))
    else:
        raise OptionError(
            "layers='last' for a function", got=repr(layers), fix="Pass an nn.Module to reach its inner layers."
        )


@contextmanager
def capture_maps(model: Model, layers: Layers) -> Iterator[Reader]:
    """Yield a function from images to the float maps ``b d h' w'`` of the chosen layers.

    Raises:
        UnknownNameError: The model has no layer of that name.
        ShapeError: A layer returns something other than maps; raised when images are read.

    Example:
        >>> import torch
        >>> from pretextkit.models import SmallCNN
        >>> with capture_maps(SmallCNN(), "last") as read:
        ...     read(torch.rand(2, 3, 32, 32))["last"].shape
        torch.Size([2, 256, 4, 4])
    """
    with capture_layers(model, layers, maps=True) as read:

        def read_maps(images: Tensor) -> dict[str, Tensor]:
            outputs = read(images)
            for layer, output in outputs.items():
                if not isinstance(output, Tensor) or output.ndim != 4:
                    raise ShapeError(
                        f"maps b d h w from layer {layer!r}",
                        got=described(output),
                        fix="Choose a layer before the average over the map, by its name in dict(named_modules()).",
                    )
                if len(output) != len(images):
                    raise ShapeError(
                        f"maps of {len(images)} images from layer {layer!r}",
                        got=described(output),
                        fix="Choose another layer, or keep the images as the first dimension.",
                    )
            return {layer: output.float() for layer, output in outputs.items()}

        yield read_maps


@contextmanager
def _stages_and_modules(model: SpatialBackbone, layers: Layers, *, maps: bool, wrapped: nn.Module) -> Iterator[Reader]:
    """Read the named stages from :meth:`SpatialBackbone.stages`, and other layers by hooks in a second pass."""
    asked, others = list(layers), [name for name in layers if name not in _stage_names(model, layers)]
    with ExitStack() as stack:
        read_last = stack.enter_context(capture_layers(model, "last", maps=maps)) if "last" in others else None
        hooked = [name for name in others if name != "last"]
        read_others = stack.enter_context(_hooked(model, hooked, wrapped)) if hooked else None

        def read(images: Tensor) -> dict[str, Tensor]:
            outputs = _stages(model, images)
            for name in asked:
                if name not in others and name not in outputs:
                    raise unknown_name(f"layer of {type(model).__name__}", name, list(outputs))
            for reader in (read_last, read_others):
                outputs |= {} if reader is None else reader(images)
            return {name: outputs[name] for name in asked}

        yield read


def _stages(model: SpatialBackbone, images: Tensor) -> dict[str, Tensor]:
    return {f"stage{i}": stage for i, stage in enumerate(model.stages(images), 1)}


def _stage_names(model: nn.Module, layers: Layers) -> list[str]:
    """List the stages among the layers that are no submodules."""
    modules = dict(model.named_modules())
    return [name for name in layers if isinstance(name, str) and STAGE.fullmatch(name) and name not in modules]


@contextmanager
def _hooked(model: nn.Module, layers: Layers, wrapped: nn.Module) -> Iterator[Reader]:
    modules = {**dict(wrapped.named_modules()), **dict(model.named_modules())}  # names with and without the wrapper
    names = [] if is_scripted(model) else _layer_names(model, layers, modules)
    for scripted in [each for each in (model, *(modules[name] for name in names)) if is_scripted(each)]:
        raise OptionError(
            "a model whose inner layers can be read, which torch.jit does not allow",
            got=f"a {type(scripted).__name__}",
            fix="Pass the module from which it was scripted or traced, or layers='last'.",
        )
    captured: dict[str, Tensor] = {}

    def capture(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                captured[name] = output.clone()  # the next layer may work in place, as ReLU(inplace=True) does

        return hook

    def read(images: Tensor) -> dict[str, Tensor]:
        captured.clear()
        with eager_execution(model):
            model(images)
        missing = [name for name in names if name not in captured and layers != "all"]
        if missing:
            raise OptionError(
                f"layer {missing[0]!r} to run and return a tensor",
                got="no tensor from it",
                fix="Name a layer that the model's forward calls.",
            )
        if not captured:
            raise OptionError(
                "a layer that returns a tensor",
                got=f"none with layers={layers!r}",
                fix="Pass names from dict(model.named_modules()), or layers='last'.",
            )
        return {name: captured[name] for name in names if name in captured}

    handles = [modules[name].register_forward_hook(capture(name)) for name in names]
    try:
        yield read
    finally:
        for handle in handles:
            handle.remove()


def last_map_layer(model: Model, images: Tensor) -> str | None:
    """Return the name of the last layer that gives a map larger than 1x1; None if there is none.

    Example:
        >>> layers = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        >>> last_map_layer(layers, torch.rand(2, 3, 8, 8))
        '0'
    """
    network = unwrap(model)
    if not isinstance(network, nn.Module) or is_scripted(network):
        return None
    found: list[str] = []

    def hook_of(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor) and output.ndim == 4 and min(output.shape[2:]) > 1:
                found.append(name)

        return hook

    inner = [(name, each) for name, each in network.named_modules() if name and not is_scripted(each)]
    handles = [each.register_forward_hook(hook_of(name)) for name, each in inner]
    try:
        with eager_execution(network):
            network(images.to(module_dtype(network)))
    finally:
        for handle in handles:
            handle.remove()
    return found[-1] if found else None


def _layer_names(model: nn.Module, layers: Layers, modules: Mapping[str, nn.Module]) -> list[str]:
    if layers == "all":
        return [name for name, _ in model.named_children()]
    if isinstance(layers, str):
        raise unknown_name("choice of layers", layers, ["last", "all"], "Put the name of one layer into a list.")
    for name in layers:
        if name not in modules:
            known = [each for each, _ in model.named_modules() if each]
            stages = "Stages: stage1, stage2, ..." if isinstance(model, SpatialBackbone) else ""
            raise unknown_name(f"layer of {type(model).__name__}", name, known, stages)
    return list(layers)
