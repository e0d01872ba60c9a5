"""Start of the head of a fine-tuning: its layers and its first weights."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

from pretextkit._modules import module_device
from pretextkit.evaluation._layer_names import Part
from pretextkit.evaluation._logistic_classifier import fit_logistic_classifier
from pretextkit.finetuning._feature_rows import FeatureRows
from pretextkit.finetuning._head import build_head, find_linear_layer, set_weights
from pretextkit.finetuning._layers import (
    choose_head_layers,
    join_features,
    read_features,
)
from pretextkit.finetuning._work import FinetuneWork
from pretextkit.inference._classifier import Classifier
from pretextkit.models.heads import LinearHead

__all__ = ["SOLVED", "HeadStart", "start_head"]

HEAD_STEPS = 200
"""Most steps in which a head that is not linear trains alone; features of the backbone make them cheap."""


class HeadStart(NamedTuple):
    """Start of a head."""

    described: str
    """Where the head begins."""
    features: FeatureRows | None = None
    """Features that the head reads; None where they are not needed, or differ between readings."""
    fixed: bool = False
    """Whether the images are equal on another reading."""


SOLVED = "logistic regression"
"""Start of a linear head."""


def start_head(work: FinetuneWork, *, on_features: bool) -> tuple[FinetuneWork, HeadStart]:
    """Choose the layers of the head. Set a linear head by logistic regression on them.

    Args:
        work: What will train.
        on_features: Whether another head takes some steps on the features.

    Returns:
        The work, with the layers of the head; and its start.
    """
    backbone, source, settings = work.classifier.backbone, work.data.source, work.settings
    auto, linear = work.recipe.layers == "auto", find_linear_layer(work.classifier.head) is not None
    wanted = auto or linear or on_features
    if not wanted and work.augment is not None:
        return work, HeadStart("its own weights")
    found, fixed = read_features(backbone, source, work.recipe.layers, settings.precision, settings.seed, always=wanted)
    if found is None:
        return work, HeadStart("its own weights")
    chosen = (
        choose_head_layers(found, backbone, work.data, settings.seed, with_last=bool(work.trained)) if auto else None
    )
    rows = FeatureRows(join_features(found, list(found.layers) if chosen is None else chosen.names), found.labels)
    if chosen is not None:
        work = _with_layers(work, chosen.parts)
    if layer := find_linear_layer(work.classifier.head):
        solution = _solve(rows, work) if chosen is None else chosen.head
        set_weights(layer, solution, work.data.classes.present)
        return work, HeadStart(SOLVED, rows, fixed)
    if not on_features:
        return work, HeadStart("its own weights", rows, fixed)
    steps = min(HEAD_STEPS, work.plan.total)
    work.train(work.head_objective(), rows, replace(work.plan, total=steps, warmup=math.ceil(0.05 * steps)))
    return work, HeadStart(f"{steps} step{'' if steps == 1 else 's'} on features", rows, fixed)


def _solve(rows: FeatureRows, work: FinetuneWork) -> LinearHead:
    data, seed = work.data, work.settings.seed
    return fit_logistic_classifier(
        rows.features, rows.labels, data.classes, class_weights=data.class_weights, seed=seed
    )


def _with_layers(work: FinetuneWork, parts: tuple[Part, ...]) -> FinetuneWork:
    """Build the head again, for the features of the chosen layers."""
    old, data = work.classifier, work.data
    assert work.head_name is not None
    head = build_head(work.head_name, old.backbone, parts, data, work.settings.seed)
    classifier = Classifier(old.backbone, head, data.classes.present, layers=parts)
    return replace(work, classifier=classifier.to(module_device(old.head)))
