"""Features of images from one or several layers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypedDict

import torch
from torch import Tensor, nn
from typing_extensions import Unpack

from pretextkit._color import as_float
from pretextkit._display import html_table
from pretextkit._evaluation_mode import evaluation_mode
from pretextkit._validation import check_features, check_int, check_labels, check_sequence, described
from pretextkit.data import ImagesLike, LabeledLike, as_source
from pretextkit.data._accepted_channels import retry_in_color
from pretextkit.data._as_source import read_files
from pretextkit.data._collate import join_labels
from pretextkit.data._image_files import warn_of_lost_order
from pretextkit.data._types import OnError, Size
from pretextkit.errors import DataError, OptionError, ShapeError
from pretextkit.evaluation._labels import labeled_rows
from pretextkit.evaluation._layer_names import Plan, affordable_parts, grid_parts, named_parts
from pretextkit.evaluation._shared_images import image_marks
from pretextkit.evaluation._storage import FeatureStore, row_slices
from pretextkit.inference._capture import Layers, Model, capture_layers, last_map_layer
from pretextkit.training._hardware import Precision, forward_context

__all__ = [
    "Features",
    "LabeledFeatures",
    "Layers",
    "Model",
    "extract_features",
    "image_features",
    "labeled_features",
    "pool_sides",
]


class Features(NamedTuple):
    """Features of the same images from one or several layers."""

    layers: Mapping[str, Tensor]
    """Layer name to ``n d``, float32 on the CPU; memory-mapped from a temporary file beyond the memory budget."""
    labels: Tensor | None
    """``n``, int64, -1 for unlabeled."""

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name} {len(each)}x{each.shape[1]}" for name, each in self.layers.items())
        labeled = 0 if self.labels is None else int((self.labels >= 0).sum())
        return f"<Features: {sizes}; {labeled} labeled>"

    def _repr_html_(self) -> str:
        rows = [[name, f"{len(each)}", f"{each.shape[1]}"] for name, each in self.layers.items()]
        return html_table([["Layer", "Images", "Features"], *rows])


class LabeledFeatures(NamedTuple):
    """Features of labeled images."""

    layers: Mapping[str, Tensor]
    """Layer name to ``n d``."""
    labels: Tensor
    """``n``, from 0 up."""
    marks: Tensor
    """``n``, int64: equal for equal images."""


class ExtractOptions(TypedDict, total=False):
    """Options of :func:`extract_features` that every probe passes on."""

    layers: Layers | Literal["auto"]
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
    size: Size | None = None,
    on_error: OnError = "raise",
) -> Features:
    """Run a model over images once and collect the features of the chosen layers.

    The model runs in evaluation mode, and so does every module that a function calls; its state is restored afterwards.
    A model whose weights are not float32 runs in the dtype of its weights. Layers are those of the network inside
    ``torch.compile``, ``DataParallel`` and ``DistributedDataParallel``.
    Maps ``b d h w`` are averaged over a grid and flattened. Tokens ``b t d`` are averaged.

    Args:
        model: Module or function from images ``b c h w`` in [0, 1] to features.
        images: Images as for :func:`~pretextkit.functional.pretrain`, or a pair (images, labels). Features ``n d`` in
            place of images go to the model unchanged.
        layers: ``"last"`` for the output; ``"all"`` for every stage of a ``SpatialBackbone`` or every direct child of
            another module; or a list of names: those in results, such as ``stage3``, ``stage3 2x2`` or
            ``stage3 4x4 + stage4 2x2`` (concatenated), and those of ``dict(model.named_modules())``.
        pool: Side of the grid over which maps are averaged; 1 is the global average. Several sides give several
            features, named for example ``stage3 2x2``. Each named layer must return a map larger than 1x1; with
            ``"all"``, at least one layer must, and a smaller map keeps its own grid.
        batch_size: Images per forward pass.
        precision: Precision of the forward pass, as for :func:`~pretextkit.functional.pretrain`; ``"auto"`` is the
            dtype of the weights if they are not float32.
        memory: Memory budget of the features of all layers, in bytes; no limit by default. Layers beyond it are
            memory-mapped from temporary files in the folder of the environment variable ``TMPDIR``. The files disappear
            with the tensors.
        size: Side of the images of files or of a dataset, or a pair (height, width), as for
            :class:`~pretextkit.data.FolderImages`.
        on_error: ``"raise"`` an error for an image file that cannot be decoded, or ``"skip"`` it.

    Returns:
        Features, and labels where the images have labels.

    Raises:
        UnknownNameError: The model has no layer of that name.
        OptionError: Inner layers of a function are requested, no layer is requested, ``pool`` is above 1 without a map,
            or a number is out of range; the disk has too little room.
        ShapeError: A layer returns something other than features, tokens or maps, or its width varies between images.
        DataError: Features are NaN or infinite.

    Warns:
        DataWarning: A ``DataLoader`` without labels shuffles or drops images: rows have the order of the loader.

    Example:
        >>> from pretextkit.models import SmallCNN
        >>> features, _ = extract_features(SmallCNN(), torch.rand(4, 3, 32, 32), layers="all")
        >>> {name: tuple(values.shape) for name, values in features.items()}
        {'stage1': (4, 32), 'stage2': (4, 64), 'stage3': (4, 128), 'stage4': (4, 256)}
    """
    options: ExtractOptions = {"layers": layers, "pool": pool, "batch_size": batch_size, "precision": precision}
    (images,) = read_files([images], size, on_error)
    features = image_features(model, images, memory, **options)
    if features.labels is None:  # labels come in the order of their rows
        warn_of_lost_order(images)
    return features


def image_features(
    model: Model, images: ImagesLike, memory: float = math.inf, **options: Unpack[ExtractOptions]
) -> Features:
    """Extract features as :func:`extract_features` does, where the order of the rows does not matter or is checked."""
    return _extract_any_channels(model, images, FeatureStore(memory), **options)[0]


def labeled_features(
    model: Model, data: LabeledLike, what: str, store: FeatureStore, **options: Unpack[ExtractOptions]
) -> LabeledFeatures:
    """Extract the features of labeled images.

    Args:
        model: Module or function from images to features.
        data: Images with labels; images labeled -1 are left out.
        what: Name of the data in errors, such as ``train``.
        store: Storage of the features.
        options: Options of :func:`extract_features`.

    Returns:
        Features, labels and marks.

    Raises:
        DataError: There are no labels.
    """
    features, marks = _extract_any_channels(model, data, store, **options)
    keep = labeled_rows(features.labels, what)
    assert features.labels is not None
    if len(keep) < len(features.labels):
        for values in features.layers.values():
            for rows in row_slices(len(keep), values.shape[1]):
                values[rows] = values[keep[rows]]  # rows only move up: no row is overwritten before it is read
    layers = {name: values[: len(keep)] for name, values in features.layers.items()}
    return LabeledFeatures(layers, features.labels[keep], marks[keep])


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


def _extract_any_channels(
    model: Model, images: ImagesLike, store: FeatureStore, **options: Unpack[ExtractOptions]
) -> tuple[Features, Tensor]:
    """Extract features and marks; a model that refuses gray images beside RGB images gets all of them as RGB."""
    if isinstance(images, tuple) or hasattr(images, "ndim"):
        return _extract(model, images, store, **options)
    return retry_in_color(lambda source: _extract(model, source, store, **options), as_source(images))


def _extract(
    model: Model,
    images: ImagesLike,
    store: FeatureStore,
    *,
    layers: Layers | Literal["auto"] = "last",
    pool: int | Sequence[int] = 1,
    batch_size: int = 256,
    precision: Precision = "auto",
) -> tuple[Features, Tensor]:
    sides = pool_sides(pool)
    batch_size = check_int("batch_size", batch_size, fix="The default is 256.")
    device, autocast = forward_context(model, precision)
    count, batches = _batches(images, batch_size)
    features: dict[str, Tensor] = {}
    labels: list[Tensor | None] = []
    counts: list[int] = []
    marks: list[Tensor] = []
    done = 0
    plan = None if layers == "auto" else named_parts(model, layers, sides)
    names: Layers = "all" if layers == "auto" else layers
    maps = layers == "auto" or max(sides) > 1
    if plan is not None:
        parts = [part for each in plan.values() for part in each]
        names = list(dict.fromkeys(layer for layer, _ in parts))
        maps = any(name != layer or side > 1 for name, each in plan.items() for layer, side in each)
    with evaluation_mode(model), capture_layers(model, names, maps=maps) as read:
        for inputs, targets in batches:
            with autocast:
                outputs = read(inputs.to(device))
            if layers == "auto":
                plan = plan or affordable_parts(outputs, count, sides)
            else:
                _check_grid(model, inputs.to(device), outputs, layers, sides, plan)
            batch_features = {
                name: torch.cat([_pooled(outputs[layer], len(inputs), layer, side) for layer, side in parts], 1)
                for name, parts in (plan or grid_parts(outputs, sides)).items()
            }
            _check_widths(batch_features, features)
            for name, values in batch_features.items():
                if name not in features:
                    features[name] = store.allocate(count, values.shape[1])
                features[name][done : done + len(inputs)] = values
            done += len(inputs)
            labels.append(targets)
            counts.append(len(inputs))
            marks.append(image_marks(inputs))
    all_labels = join_labels(labels, counts)
    assert done == count, f"{done} features of {count} images"
    assert all_labels is None or len(all_labels) == count, f"{len(all_labels)} labels of {count} images"
    return Features(features, all_labels), torch.cat(marks)


def _pooled(output: Any, count: int, layer: str, side: int) -> Tensor:
    return check_features(output, count, f"layer {layer!r}", pool=side).float()


def _check_grid(
    model: Model, inputs: Tensor, outputs: Mapping[str, Any], layers: Layers, sides: Sequence[int], plan: Plan | None
) -> None:
    """Refuse a grid where no layer, or one that is named, has a map with more than one position."""
    parts = [(layer, max(sides)) for layer in outputs] if plan is None else [p for each in plan.values() for p in each]
    gridded = {layer: outputs[layer] for layer, side in parts if side > 1}
    if not gridded:
        return
    side = max(side for _, side in parts)
    grids = [
        isinstance(output, Tensor) and output.ndim == 4 and min(output.shape[2:]) > 1 for output in gridded.values()
    ]
    if any(grids) if layers == "all" else all(grids):
        return
    layer, output = next((name, gridded[name]) for name, grid in zip(gridded, grids, strict=True) if not grid)
    fix = "Use pool=1."
    if not isinstance(model, nn.Module):
        fix = "Return the map from the function, before its average, or use pool=1."
    elif inputs.ndim == 4 and (name := last_map_layer(model, inputs)):
        fix = f"Use layers=[{name!r}], the last layer with a map, or pool=1."
    raise OptionError(f"maps b d h w from layer {layer!r} for pool={side}", got=described(output), fix=fix)


def _check_widths(batch: Mapping[str, Tensor], previous: Mapping[str, Tensor]) -> None:
    """Refuse features whose layers or widths differ from those of previous batches."""
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
                "real features n d", got=str(values.dtype), fix="Convert with torch.view_as_real(features).flatten(1)."
            )
        targets = None if labels is None else check_labels(labels, len(values))
        orders = torch.split(torch.arange(len(values)), batch_size)
        return len(values), ((values[rows], None if targets is None else targets[rows]) for rows in orders)
    source = as_source(images)
    return len(source), ((as_float(batch.images), batch.labels) for batch in source.in_order(batch_size))
