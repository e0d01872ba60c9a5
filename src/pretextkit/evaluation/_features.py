"""Features of images from one or several layers."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypedDict

import torch
from torch import Tensor, nn
from typing_extensions import Unpack

from pretextkit._color import as_float
from pretextkit._evaluation_mode import evaluation_mode, module_device
from pretextkit._validation import check_int, check_labels, check_sequence
from pretextkit.data import ImagesLike, LabeledLike, as_source
from pretextkit.errors import DataError, ShapeError
from pretextkit.evaluation._capture import Layers, Model, capture_layers
from pretextkit.evaluation._labels import labeled_rows
from pretextkit.evaluation._storage import FeatureStore, row_slices
from pretextkit.training._hardware import Precision, autocast_for, resolve_precision

__all__ = ["Features", "Layers", "Model", "extract_features", "labeled_features", "pool_sides"]


GRID = re.compile(r"(.+) ([1-9]\d*)x\2")
"""Name of a layer and its grid in a result, such as ``stage3 2x2``."""


class Features(NamedTuple):
    """Features of the same images from one or several layers."""

    layers: Mapping[str, Tensor]
    """Layer name to ``n d``, float32 on the CPU; memory-mapped from a temporary file beyond the memory budget."""
    labels: Tensor | None
    """``n``, int64, -1 for unlabeled."""


class ExtractOptions(TypedDict, total=False):
    """Options of :func:`extract_features` that every probe passes on."""

    layers: Layers
    pool: int | Sequence[int]
    batch_size: int
    precision: Precision


def extract_features(
    model: Model,
    images: ImagesLike,
    *,
    layers: Layers = "last",
    pool: int | Sequence[int] = 1,
    batch_size: int = 256,
    precision: Precision = "auto",
    memory: float = math.inf,
) -> Features:
    """Run a model over images once and collect the features of the chosen layers.

    The model runs in evaluation mode, and so does every module that a function calls; its state is restored afterwards.
    Maps ``b d h w`` are averaged over a grid and flattened. Tokens ``b t d`` are averaged.

    Args:
        model: Module or function from images ``b c h w`` in [0, 1] to features.
        images: Images as for :func:`~pretextkit.functional.pretrain`, or a pair (images, labels). Features ``n d`` in
            place of images go to the model unchanged.
        layers: ``"last"`` for the output; ``"all"`` for every stage of a ``SpatialBackbone`` or every direct child of
            another module; or a list of names: those in results, such as ``stage3`` or ``stage3 2x2``, and those of
            ``dict(model.named_modules())``.
        pool: Side of the grid over which maps are averaged; 1 is the global average. Several sides give several
            features, named for example ``stage3 2x2``.
        batch_size: Images per forward pass.
        precision: Precision of the forward pass, as for :func:`~pretextkit.functional.pretrain`.
        memory: Memory budget of the features of all layers, in bytes; no limit by default. Layers beyond it are
            memory-mapped from temporary files in the folder of the environment variable ``TMPDIR``. The files disappear
            with the tensors.

    Returns:
        Features, and labels where the images have labels.

    Raises:
        UnknownNameError: The model has no layer of that name.
        OptionError: Inner layers of a function are requested, no layer is requested, or a number is out of range; the
            disk has too little room.
        ShapeError: A layer returns something other than features, tokens or maps, or its width varies between images.
        DataError: Features are NaN or infinite.

    Example:
        >>> from pretextkit.models import SmallCNN
        >>> features, _ = extract_features(SmallCNN(), torch.rand(4, 3, 32, 32), layers="all")
        >>> {name: tuple(values.shape) for name, values in features.items()}
        {'stage1': (4, 32), 'stage2': (4, 64), 'stage3': (4, 128), 'stage4': (4, 256)}
    """
    options: ExtractOptions = {"layers": layers, "pool": pool, "batch_size": batch_size, "precision": precision}
    return _extract(model, images, FeatureStore(memory), **options)


def labeled_features(
    model: Model, data: LabeledLike, what: str, store: FeatureStore, **options: Unpack[ExtractOptions]
) -> tuple[Mapping[str, Tensor], Tensor]:
    """Extract the features of labeled images.

    Args:
        model: Module or function from images to features.
        data: Images with labels; images labeled -1 are left out.
        what: Name of the data in errors, such as ``train``.
        store: Storage of the features.
        options: Options of :func:`extract_features`.

    Returns:
        Layer name to features ``n d``, and labels ``n``.

    Raises:
        DataError: There are no labels.
    """
    features = _extract(model, data, store, **options)
    keep = labeled_rows(features.labels, what)
    assert features.labels is not None
    if len(keep) < len(features.labels):
        for values in features.layers.values():
            for rows in row_slices(len(keep), values.shape[1]):
                values[rows] = values[keep[rows]]  # rows only move up: no row is overwritten before it is read
    return {name: values[: len(keep)] for name, values in features.layers.items()}, features.labels[keep]


def pool_sides(pool: int | Sequence[int]) -> list[int]:
    """Return the sides of the grids over which maps are averaged.

    Raises:
        OptionError: A side is not an integer of at least 1, or there is none.

    Example:
        >>> pool_sides(1), pool_sides((1, 2))
        ([1], [1, 2])
    """
    fix = "1 averages over the full map, 2 over its quarters."
    sides = check_sequence("pool", pool if isinstance(pool, Iterable) else [pool], fix=fix)
    return [check_int("pool", side, fix=fix) for side in sides]


def _extract(
    model: Model,
    images: ImagesLike,
    store: FeatureStore,
    *,
    layers: Layers = "last",
    pool: int | Sequence[int] = 1,
    batch_size: int = 256,
    precision: Precision = "auto",
) -> Features:
    sides = pool_sides(pool)
    batch_size = check_int("batch_size", batch_size, fix="The default is 256.")
    device = module_device(model)
    autocast = autocast_for(device, resolve_precision(precision, device))
    count, batches = _batches(images, batch_size)
    features: dict[str, Tensor] = {}
    labels: list[Tensor] = []
    done = 0
    grids = _grids(model, layers, sides)
    names = layers if grids is None else list(dict.fromkeys(layer for layer, _ in grids.values()))
    maps = max(sides) > 1 if grids is None else any(name != layer or side > 1 for name, (layer, side) in grids.items())
    with evaluation_mode(model), capture_layers(model, names, maps=maps) as read:
        for inputs, targets in batches:
            with autocast:
                outputs = read(inputs.to(device))
            batch_features = {
                name: _flatten(outputs[layer], side, layer).float()
                for name, (layer, side) in (grids or _named_grids(outputs, sides)).items()
            }
            _check_features(batch_features, len(inputs), features)
            for name, values in batch_features.items():
                if name not in features:
                    features[name] = store.allocate(count, values.shape[1])
                features[name][done : done + len(inputs)] = values
            done += len(inputs)
            if targets is not None:
                labels.append(targets.cpu())
    return Features(features, torch.cat(labels) if labels else None)


def _named_grids(layers: Iterable[str], sides: Sequence[int]) -> dict[str, tuple[str, int]]:
    """Map the names of features to their layers and the sides of their grids."""
    return {layer if len(sides) == 1 else f"{layer} {side}x{side}": (layer, side) for layer in layers for side in sides}


def _grids(model: Model, layers: Layers, sides: Sequence[int]) -> dict[str, tuple[str, int]] | None:
    """Read names with a grid, such as ``stage3 2x2``; None if no layer has such a name."""
    if isinstance(layers, str):
        return None
    layers = list(layers)
    modules = dict(model.named_modules()) if isinstance(model, nn.Module) else {}
    grids: dict[str, tuple[str, int]] = {}
    for name in layers:
        found = None if name in modules or not isinstance(name, str) else GRID.fullmatch(name)
        grids |= _named_grids([name], sides) if found is None else {name: (found[1], int(found[2]))}
    return None if grids == _named_grids(layers, sides) else grids


def _check_features(batch: Mapping[str, Tensor], count: int, previous: Mapping[str, Tensor]) -> None:
    """Refuse features of ``count`` images that are not finite or whose shape differs from previous batches."""
    for name, values in batch.items():
        if not values.isfinite().all():
            raise DataError(f"finite features from layer {name!r}", got="NaN or inf", fix="Check the model's weights.")
        if values.shape[1] == 0:
            raise ShapeError(
                f"at least one feature from layer {name!r}",
                got=f"shape {tuple(values.shape)}",
                fix="Choose another layer.",
            )
        if len(values) != count:
            raise ShapeError(
                f"features of {count} images from layer {name!r}",
                got=f"shape {tuple(values.shape)}",
                fix="Choose another layer, or keep the images as the first dimension.",
            )
    widths, first = ({name: values.shape[1] for name, values in each.items()} for each in (batch, previous))
    if previous and widths != first:
        raise ShapeError(
            "the same layers and widths for every image",
            got=f"{widths} after {first}",
            fix="Resize the images to one size.",
        )


def _batches(images: ImagesLike, batch_size: int) -> tuple[int, Iterator[tuple[Tensor, Tensor | None]]]:
    """Count and iterate float images with their labels in order; features ``n d`` pass unchanged."""
    data: Any
    data, labels = images if isinstance(images, tuple) and len(images) == 2 else (images, None)
    if getattr(data, "ndim", None) == 2:
        values = torch.as_tensor(data)
        if values.is_complex():
            raise DataError(
                "real features n d", got=str(values.dtype), fix="Convert with torch.view_as_real(...).flatten(1)."
            )
        targets = None if labels is None else check_labels(labels, len(values))
        orders = torch.split(torch.arange(len(values)), batch_size)
        return len(values), ((values[rows], None if targets is None else targets[rows]) for rows in orders)
    source = as_source(images)
    return len(source), ((as_float(batch.images), batch.labels) for batch in source.in_order(batch_size))


def _flatten(output: Tensor, side: int, layer: str) -> Tensor:
    if not isinstance(output, Tensor):
        raise ShapeError(
            f"a tensor of features from layer {layer!r}",
            got=type(output).__name__,
            fix="Wrap the model in a function that returns one tensor.",
        )
    if output.ndim == 4:
        if side > 1 and min(output.shape[2:]) < side:
            side = min(output.shape[2:])  # a map has no finer grid than its own pixels
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
