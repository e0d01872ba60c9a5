"""Layers that the head of a fine-tuning reads, their features, and the linear probe on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from pretextkit._seeding import derived_seed, seeded
from pretextkit.data._sources import ImageSource
from pretextkit.evaluation._features import ExtractOptions, LabeledFeatures, labeled_features
from pretextkit.evaluation._layer_choice import choose_layers
from pretextkit.evaluation._layer_names import Part, grid_parts, named_parts
from pretextkit.evaluation._logistic_classifier import PENALTIES, LogisticProblem
from pretextkit.evaluation._probe_candidates import SIDES, has_stages, last
from pretextkit.evaluation._storage import FeatureStore
from pretextkit.finetuning._data import FinetuneData
from pretextkit.finetuning._labeled_source import LabeledSource, cached_features
from pretextkit.inference._capture import Layers
from pretextkit.inference._classifier import OUTPUT
from pretextkit.models.heads import LinearHead
from pretextkit.training._hardware import Precision

__all__ = [
    "ChosenLayers",
    "HeadLayers",
    "choose_head_layers",
    "first_layers",
    "join_features",
    "read_features",
    "resolve_layers",
]

HeadLayers = Layers | Literal["auto"]
"""Layers that a head reads, or ``"auto"`` for those that the linear probe chooses."""


class ChosenLayers(NamedTuple):
    """Layers that the linear probe chose, and its solution."""

    parts: tuple[Part, ...]
    """Layers, each with the side of its grid."""
    names: Sequence[str]
    """Names of their features."""
    head: LinearHead
    """Logistic regression on the concatenated features."""


def resolve_layers(
    layers: HeadLayers, backbone: nn.Module, head: nn.Module | str, *, from_random: bool = False
) -> HeadLayers:
    """Let the linear probe choose the layers for a head that is built by name; another head gets the output.

    Of random weights that will train, the first layers are the best, and a head on them keeps the others from learning.
    So it gets the output, too.
    """
    if layers != "auto":
        return layers
    return "auto" if isinstance(head, str) and has_stages(backbone, "auto") and not from_random else "last"


def first_layers(layers: HeadLayers, backbone: nn.Module) -> tuple[Part, ...]:
    """Return the layers of the head, as far as they are known before the features are read."""
    if isinstance(layers, str):
        return OUTPUT
    plan = named_parts(backbone, layers, [1]) or grid_parts(layers, [1])
    return tuple(dict.fromkeys(part for parts in plan.values() for part in parts))


def read_features(
    backbone: nn.Module,
    source: ImageSource,
    layers: HeadLayers,
    precision: Precision,
    seed: int,
    *,
    always: bool,
) -> tuple[LabeledFeatures | None, bool]:
    """Extract the features of all images, and tell whether the images are equal on another reading.

    Args:
        backbone: Module from images to features.
        source: Labeled images.
        layers: Layers to read; ``"auto"`` for all from which the linear probe chooses.
        precision: Precision of the forward pass.
        seed: Seed of random transforms.
        always: Whether features of one reading are wanted where images differ between readings.

    Returns:
        Features with labels, or None; and whether the images stay equal.
    """
    options: ExtractOptions = {"layers": layers, "precision": precision, "pool": SIDES if layers == "auto" else 1}
    if isinstance(source, LabeledSource):
        fixed = cached_features(backbone, source, seed, **options)
        if fixed is not None or not always:
            return fixed, fixed is not None
    with seeded(derived_seed(seed, "features")):
        found = labeled_features(backbone, source, "train", FeatureStore(), **options)
    return found, not isinstance(source, LabeledSource)


def choose_head_layers(
    found: LabeledFeatures, backbone: nn.Module, data: FinetuneData, seed: int, *, with_last: bool
) -> ChosenLayers:
    """Let the linear probe choose the layers.

    Args:
        found: Features of all candidates.
        backbone: Backbone of the features.
        data: Classes and their weights.
        seed: Seed of the folds.
        with_last: Add the last layer with weights of zero, if it is not chosen. The zeros do not change the solution,
            and when they have trained, gradients reach all stages.
    """
    problem = LogisticProblem(found.labels, data.classes, data.class_weights, PENALTIES, seed=seed)
    choice = choose_layers(problem, found.layers, {name: (name,) for name in found.layers}, combine=True)
    names, head = list(choice.candidates[choice.name]), choice.head()
    final = last(list(found.layers))
    if with_last and final not in names:
        names.append(final)
        head = _with_zeros(head, found.layers[final].shape[1])
    plan = named_parts(backbone, names, SIDES) or grid_parts(names, [1])
    return ChosenLayers(tuple(part for name in names for part in plan[name]), names, head)


def join_features(found: LabeledFeatures, names: Sequence[str]) -> Tensor:
    """Concatenate the features of layers: ``n d``."""
    return torch.cat([found.layers[name].float() for name in names], 1)


def _with_zeros(head: LinearHead, width: int) -> LinearHead:
    """Return the head with weights of zero for further features."""
    linear = head.linear
    with seeded(0):  # a new layer draws random initial weights
        wider = LinearHead(linear.in_features + width, linear.out_features).requires_grad_(False)
    wider.linear.weight.copy_(nn.functional.pad(linear.weight, (0, width)))
    wider.linear.bias.copy_(linear.bias)
    return wider
