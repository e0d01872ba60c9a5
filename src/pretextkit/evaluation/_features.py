"""Features of images, from one layer or many, in one pass."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from pretextkit._color import as_float
from pretextkit._evaluation_mode import evaluation_mode, module_device
from pretextkit._validation import check_int, check_labels, check_sequence
from pretextkit.contracts import SpatialBackbone
from pretextkit.data import as_source
from pretextkit.errors import DataError, OptionError, ShapeError, unknown_name
from pretextkit.evaluation._storage import allocate, check_memory
from pretextkit.training._hardware import Precision, resolve_precision

__all__ = ["Features", "Layers", "Model", "capture_layers", "extract_features", "pool_sides"]

Model = nn.Module | Callable[[Tensor], Tensor]
"""Anything that maps images to features."""

Layers = Literal["last", "all"] | Sequence[str]
"""The model's output; every stage; or layers by their names."""


class Features(NamedTuple):
    """Features of the same images from each layer."""

    layers: Mapping[str, Tensor]
    """Layer name to ``n d``, float32 on the CPU; in a temporary file where they take more memory than they may."""
    labels: Tensor | None
    """``n``, int64, -1 where unlabeled."""


def extract_features(
    model: Model,
    images: Any,
    *,
    layers: Layers = "last",
    pool: int | Sequence[int] = 1,
    batch_size: int = 256,
    precision: Precision = "auto",
    memory: float = math.inf,
) -> Features:
    """Run a model over images once and keep what the chosen layers give.

    The model, or every module that a function calls, is in evaluation mode meanwhile and comes back as it was. Maps
    ``b d h w`` are averaged over a grid and flattened, tokens ``b t d`` are averaged.

    Args:
        model: Module or function from images ``b c h w`` in [0, 1] to features.
        images: As for :func:`~pretextkit.functional.pretrain`, or a pair (images, labels); features ``n d`` in place of
            images go to the model as they are.
        layers: ``"last"``, the output; ``"all"``, every stage of a ``SpatialBackbone`` or every direct child of another
            module; or names out of ``dict(model.named_modules())``.
        pool: Side of the grid over which maps are averaged, 1 being the global average; several sides give several
            features, called for example ``stage3 2x2``.
        batch_size: Images at a time.
        precision: As for :func:`~pretextkit.functional.pretrain`.
        memory: Bytes that the features of all layers may take. Layers that do not fit lie in temporary files, which are
            memory-mapped, in the folder that the environment variable ``TMPDIR`` names; they go with the tensors.

    Returns:
        Features and, where there are any, labels.

    Raises:
        UnknownNameError: The model has no layer of that name.
        OptionError: Layers of something that is not a module were asked for, or no layer, or a number is out of range;
            the disk has too little room.
        ShapeError: A layer gives something other than features, tokens or maps, or not the same for every image.
        DataError: Features are NaN or infinite.

    Example:
        >>> from pretextkit.models import SmallCNN
        >>> features, _ = extract_features(SmallCNN(), torch.rand(4, 3, 32, 32), layers="all")
        >>> {name: tuple(values.shape) for name, values in features.items()}
        {'stage1': (4, 32), 'stage2': (4, 64), 'stage3': (4, 128), 'stage4': (4, 256)}
    """
    sides = pool_sides(pool)
    batch_size = check_int("batch_size", batch_size, of=extract_features)
    memory = check_memory(memory)
    device = module_device(model)
    exact = resolve_precision(precision, device)
    autocast = torch.autocast(device.type, torch.float16 if exact == "fp16" else torch.bfloat16, exact != "fp32")
    count, batches = _read(images, batch_size)
    features: dict[str, Tensor] = {}
    labels: list[Tensor] = []
    done = 0
    with evaluation_mode(model), capture_layers(model, layers, maps=max(sides) > 1) as read:
        for inputs, targets in batches:
            with autocast:
                outputs = read(inputs.to(device))
            found = {
                layer if len(sides) == 1 else f"{layer} {side}x{side}": _flatten(output, side, layer).float()
                for layer, output in outputs.items()
                for side in sides
            }
            _check_batch(found, len(inputs), features)
            for name, values in found.items():
                if name not in features:
                    features[name] = allocate(count, values.shape[1], memory)
                    memory -= 4 * features[name].numel()
                features[name][done : done + len(inputs)] = values
            done += len(inputs)
            if targets is not None:
                labels.append(targets.cpu())
    return Features(features, torch.cat(labels) if labels else None)


def pool_sides(pool: Any) -> list[int]:
    """Give the sides of the grids over which maps are averaged.

    Raises:
        OptionError: One is no whole number of at least 1, or there is none.

    Example:
        >>> pool_sides(1), pool_sides((1, 2))
        ([1], [1, 2])
    """
    fix = "1 averages the whole map, 2 keeps quarters."
    sides = check_sequence("pool", pool if isinstance(pool, Iterable) else [pool], fix=fix)
    return [check_int("pool", side, fix=fix) for side in sides]


def _check_batch(found: Mapping[str, Tensor], count: int, before: Mapping[str, Tensor]) -> None:
    """Refuse what some layers give for ``count`` images, if it is no features like those of the batches before."""
    for name, values in found.items():
        if not values.isfinite().all():
            raise DataError(f"finite features from layer {name!r}", got="NaN or inf", fix="Check the model's weights.")
        if values.shape[1] == 0:
            raise ShapeError(
                f"at least one feature from layer {name!r}",
                got=f"shape {tuple(values.shape)}",
                fix="Look at the model.",
            )
        if len(values) != count:
            raise ShapeError(
                f"features of {count} images from layer {name!r}",
                got=f"shape {tuple(values.shape)}",
                fix="Choose another layer, or keep the images as the first dimension.",
            )
    widths, first = ({name: values.shape[1] for name, values in each.items()} for each in (found, before))
    if before and widths != first:
        raise ShapeError(
            "the same layers and widths for every image",
            got=f"{widths} after {first}",
            fix="Resize the images to one size.",
        )


def _read(images: Any, batch_size: int) -> tuple[int, Iterator[tuple[Tensor, Tensor | None]]]:
    """Count float images, or features as they are, and read them in their order."""
    data, labels = images if isinstance(images, tuple) and len(images) == 2 else (images, None)
    if getattr(data, "ndim", None) == 2:
        values = torch.as_tensor(data)
        if values.is_complex():
            raise DataError("real features n d", got=str(values.dtype), fix="Take torch.view_as_real(...).flatten(1).")
        targets = None if labels is None else check_labels(labels, len(values))
        orders = torch.split(torch.arange(len(values)), batch_size)
        return len(values), ((values[rows], None if targets is None else targets[rows]) for rows in orders)
    source = as_source(images)
    return len(source), ((as_float(batch.images), batch.labels) for batch in source.in_order(batch_size))


@contextmanager
def capture_layers(model: Model, layers: Layers, *, maps: bool) -> Iterator[Callable[[Tensor], dict[str, Tensor]]]:
    """Give a function from images to the outputs of the chosen layers; ``maps`` asks for a map where there is a choice.

    Example:
        >>> from pretextkit.models import SmallCNN
        >>> with capture_layers(SmallCNN(), ["stage1"], maps=True) as read:
        ...     read(torch.rand(2, 3, 32, 32))["stage1"].shape
        torch.Size([2, 32, 16, 16])
    """
    if layers == "last":
        if isinstance(model, SpatialBackbone) and maps:
            yield lambda images: {"last": model.feature_map(images)}
        else:
            yield lambda images: {"last": model(images)}
    elif isinstance(model, SpatialBackbone) and layers == "all":
        yield lambda images: {f"stage{i}": stage for i, stage in enumerate(model.stages(images), 1)}
    elif isinstance(model, nn.Module):
        with _hooked(model, layers) as read:
            yield read
    else:
        raise OptionError(
            "layers='last' for a function", got=repr(layers), fix="Pass an nn.Module to reach its inner layers."
        )


@contextmanager
def _hooked(model: nn.Module, layers: Layers) -> Iterator[Callable[[Tensor], dict[str, Tensor]]]:
    modules = dict(model.named_modules())
    names = [name for name, _ in model.named_children()] if layers == "all" else list(layers)
    if isinstance(layers, str) and layers != "all":
        raise unknown_name("choice of layers", layers, ["last", "all"], "One layer's name goes into a list.")
    for name in names:
        if name not in modules:
            raise unknown_name(f"layer of {type(model).__name__}", name, [known for known in modules if known])
    seen: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                seen[name] = output.clone()  # the next layer may work in place, as ReLU(inplace=True) does

        return hook

    def read(images: Tensor) -> dict[str, Tensor]:
        seen.clear()
        model(images)
        missing = [name for name in names if name not in seen and layers != "all"]
        if missing:
            raise OptionError(
                f"layer {missing[0]!r} to run and give a tensor",
                got="no tensor from it",
                fix="Name a layer that the model's forward calls.",
            )
        if not seen:
            raise OptionError(
                "a layer that gives a tensor",
                got=f"none with layers={layers!r}",
                fix="Name some out of dict(model.named_modules()), or take layers='last'.",
            )
        return {name: seen[name] for name in names if name in seen}

    handles = [modules[name].register_forward_hook(keep(name)) for name in names]
    try:
        yield read
    finally:
        for handle in handles:
            handle.remove()


def _flatten(output: Tensor, side: int, layer: str) -> Tensor:
    if not isinstance(output, Tensor):
        raise ShapeError(
            f"a tensor of features from layer {layer!r}",
            got=type(output).__name__,
            fix="Wrap the model in a function that returns one tensor.",
        )
    if output.ndim == 4:
        if side > 1 and min(output.shape[2:]) < side:
            side = min(output.shape[2:])  # a smaller map has no finer grid than its own pixels
        return nn.functional.adaptive_avg_pool2d(output.float(), side).flatten(1)
    if output.ndim == 3:
        return output.mean(1)
    if output.ndim == 2:
        return output
    raise ShapeError(
        f"features b d, tokens b t d or maps b d h w from layer {layer!r}",
        got=f"shape {tuple(output.shape)}",
        fix="Choose another layer, or flatten its output.",
    )
