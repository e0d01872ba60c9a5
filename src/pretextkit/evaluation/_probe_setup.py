"""Setup of a linear probe: the features of train, and the choice of layers and penalty on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from pretextkit._validation import check_float, check_int, check_sequence
from pretextkit.data import LabeledLike
from pretextkit.evaluation._classes import (
    Classes,
    ClassWeights,
    find_classes,
    resolve_class_weights,
    with_class_names,
)
from pretextkit.evaluation._features import ExtractOptions, Layers, Model, labeled_features, pool_sides
from pretextkit.evaluation._layer_choice import Choice, choose_layers
from pretextkit.evaluation._layer_names import named_parts
from pretextkit.evaluation._logistic_classifier import LogisticProblem, folds
from pretextkit.evaluation._probe_candidates import SIDES, candidates, has_stages, read_layers
from pretextkit.evaluation._storage import FeatureStore
from pretextkit.evaluation._trained_classifiers import trained_classifier
from pretextkit.inference._classifier import Classifier
from pretextkit.training._hardware import Precision

__all__ = ["ProbeSetup", "Scored", "read_train"]


class Scored(NamedTuple):
    """Chosen layers and their score, on test or on the folds of train."""

    choice: Choice
    logits: Tensor
    """Logits ``m k`` of the scored images."""
    targets: Tensor
    """True labels ``m``."""
    accuracies: Mapping[str, float]
    """Accuracy of each candidate."""
    cross_validated: bool


@dataclass(frozen=True)
class ProbeSetup:
    """Everything that the choice of layers depends on; nothing of test."""

    backbone: Model
    train: Any
    """Source of the training images, or features."""
    sides: Sequence[int]
    """Grids over which maps are averaged."""
    marks: Tensor
    """Marks of the training images ``n``."""
    features: Mapping[str, Tensor]
    labels: Tensor
    classes: Classes
    class_weights: Tensor | None
    candidates: Mapping[str, tuple[str, ...]]
    combine: bool
    penalties: Sequence[float]
    seed: int
    store: FeatureStore

    def choose(self, rows: Tensor | None = None) -> Choice:
        """Choose layers and penalties on the given rows, by default on all."""
        labels = self.labels if rows is None else self.labels[rows]
        classes = self.classes if rows is None else replace(self.classes, present=torch.unique(labels))
        problem = LogisticProblem(labels, classes, self.class_weights, self.penalties, seed=self.seed, store=self.store)
        return choose_layers(problem, self.features, self.candidates, combine=self.combine, rows=rows)

    def score_on_test(self, features: Mapping[str, Tensor], targets: Tensor) -> Scored:
        """Choose on all rows, then score every candidate once on the features and labels of test."""
        choice = self.choose()
        accuracies = {
            name: (choice.logits(features, name).argmax(1) == targets).float().mean().item() for name in choice.scores
        }
        return Scored(choice, choice.logits(features), targets, accuracies, cross_validated=False)

    def score_by_folds(self) -> Scored:
        """Choose on all rows, and score the choice that is repeated without each fold on the rows of the fold."""
        choice = self.choose()
        rows, logits = self._cross_validate()
        accuracies = {name: each.plain_accuracy for name, each in choice.scores.items()}
        return Scored(choice, logits, self.labels[rows], accuracies, cross_validated=True)

    def _cross_validate(self) -> tuple[Tensor, Tensor]:
        """Repeat the choice without each fold, and return the held-out rows ``m`` with their logits ``m k``."""
        logits = torch.zeros(len(self.labels), self.classes.count, dtype=torch.float32)
        seen = torch.zeros(len(self.labels), dtype=torch.bool)
        for fold in folds(self.labels, self.seed):
            others = torch.ones(len(self.labels), dtype=torch.bool)
            others[fold] = False
            choice = self.choose(torch.nonzero(others)[:, 0])
            members = choice.candidates[choice.name]
            logits[fold] = choice.logits({name: self.features[name][fold] for name in members})
            seen[fold] = True
        return torch.nonzero(seen)[:, 0], logits[seen]

    def classifier(self, choice: Choice) -> Classifier:
        """Make the classifier of images from the chosen layers."""
        named = named_parts(self.backbone, [choice.name], self.sides)  # None for the plain name of a layer
        trained = {
            "by": "linear_probe",
            "images": len(self.labels),
            "layer": choice.name,
            "penalty": choice.scores[choice.name].penalty,
            "seed": self.seed,
        }
        layers = ((choice.name, self.sides[0]),) if named is None else named[choice.name]
        return trained_classifier(self.backbone, choice.head(), self.classes, self.train, trained, layers=layers)


def read_train(
    backbone: Model,
    train: LabeledLike,
    stores: Sequence[FeatureStore],
    *,
    layers: Layers | Literal["auto"],
    pool: int | Sequence[int] | None,
    penalties: Sequence[float],
    class_weights: ClassWeights,
    batch_size: int,
    precision: Precision,
    seed: int,
) -> ProbeSetup:
    """Check the options of a linear probe, and extract the features of its training images.

    Args:
        backbone: Module or function from images to features.
        train: Images with labels.
        stores: Storage of the features, and of the solver's copy.
        layers: As for :func:`linear_probe`, and so are the other options.
        pool: Side or sides of the grid; None for the default.
        penalties: L2 penalties.
        class_weights: Weights of the classes.
        batch_size: Images per forward pass.
        precision: Precision of the extraction.
        seed: Seed of the split of train.
    """
    fix = "For example penalties=(1e-4, 1e-2, 1.0)."
    penalties = [
        check_float("penalties", each, "(0, inf)", fix=fix) for each in check_sequence("penalties", penalties, fix=fix)
    ]
    seed = check_int("seed", seed, at_least=None, fix="The default is 0.")
    sides = pool_sides(pool if pool is not None else SIDES if has_stages(backbone, layers) else 1)
    options: ExtractOptions = {"pool": sides, "batch_size": batch_size, "precision": precision}
    options["layers"] = read_layers(backbone, layers, sides)
    data, names = with_class_names(train)
    given = labeled_features(backbone, data, "train", stores[0], **options)
    classes = find_classes(given.labels, names)
    return ProbeSetup(
        backbone=backbone,
        train=data,
        sides=sides,
        marks=given.marks,
        features=given.layers,
        labels=given.labels,
        classes=classes,
        class_weights=resolve_class_weights(class_weights, given.labels, classes),
        candidates=candidates(list(given.layers), layers, sides),
        combine=layers == "auto",
        penalties=penalties,
        seed=seed,
        store=stores[1],
    )
