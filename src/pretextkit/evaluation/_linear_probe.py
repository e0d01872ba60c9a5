"""Linear probe: multinomial logistic regression on frozen features."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from typing_extensions import Unpack

from pretextkit._modules import unwrap
from pretextkit._validation import check_float, check_int, check_sequence, check_widths
from pretextkit.contracts import SpatialBackbone
from pretextkit.data import LabeledLike
from pretextkit.evaluation._classes import (
    Classes,
    ClassWeights,
    find_classes,
    match_classes,
    resolve_class_weights,
    with_class_names,
)
from pretextkit.evaluation._features import (
    ExtractOptions,
    LabeledFeatures,
    Layers,
    Model,
    labeled_features,
    pool_sides,
)
from pretextkit.evaluation._layer_choice import Choice, choose_layers
from pretextkit.evaluation._layer_names import GRID, PLUS, grid_parts, named_parts
from pretextkit.evaluation._logistic_classifier import FEW, PENALTIES, LogisticProblem, folds
from pretextkit.evaluation._probe_result import LayerScore, ProbeResult
from pretextkit.evaluation._shared_images import is_same_data, warn_of_training_images
from pretextkit.evaluation._storage import FeatureStore
from pretextkit.evaluation._trained_classifiers import trained_classifier
from pretextkit.inference._classifier import Classifier
from pretextkit.metrics._classification import ClassReport, class_report, warn_of_missed_classes
from pretextkit.training._hardware import Precision

__all__ = ["LayerScore", "ProbeResult", "linear_probe"]

SIDES = (1, 2, 4)
"""Grids over which the stages are averaged by default."""


def linear_probe(
    backbone: Model,
    train: LabeledLike,
    test: LabeledLike | None = None,
    *,
    layers: Layers | Literal["auto"] = "auto",
    pool: int | Sequence[int] | None = None,
    penalties: Sequence[float] = PENALTIES,
    class_weights: ClassWeights = None,
    batch_size: int = 256,
    precision: Precision = "auto",
    memory: float = math.inf,
    seed: int = 0,
) -> ProbeResult:
    """Fit a linear classifier on frozen features and score it on test.

    Features are extracted once, standardized with the mean and standard deviation of train, and classified by
    multinomial logistic regression with L-BFGS (Alain & Bengio 2016, arXiv 1610.01644, for probes of inner layers). The
    penalty, and the layers if there are several, are chosen by the log loss on held-out parts of *train*: five folds
    for up to 5000 labels, one fifth above. Test is used once, at the end. The backbone does not change.

    By default, a ``SpatialBackbone`` is probed at every stage, each averaged over grids of 1, 2 and 4 cells a side
    where the map is that large. The classifiers of the best three candidates are averaged, or of fewer where more would
    lose a standard error of the log loss; the average is one linear classifier of the concatenated features. The cost
    is bounded: besides the averages over the full map, only candidates are fitted that are at most 8192 wide, have at
    most 2**25 entries for all images, and whose width or number of images is at most 2048. For 50,000 images this is a
    width of 671. Each candidate is fitted to every fold, with three to seven penalties, and once to all of train.

    If train and test both have class names, as folders and torchvision's datasets do, the classes of test are matched
    by name. Classes without training images are never predicted.

    Args:
        backbone: Module or function from images to features.
        train: Pair (images, labels), ``Dataset`` or ``DataLoader``; images ``n c h w`` uint8 or float in [0, 1], or
            features ``n d``; labels 0…k-1; images labeled -1 are left out.
        test: Test images with labels, in the same forms as ``train``. Without test, the result is cross-validated: on
            each fold, the complete choice of layers and penalty is repeated without the fold, which is then predicted.
            This takes six times as long, or twice above 5000 labels, where one fifth is predicted.
        layers: ``"auto"`` for the choice above, and for the output of a model without stages; ``"last"``, ``"all"``
            stages, or names of layers, of which one is chosen. See :func:`extract_features`.
        pool: Side of the grid over which maps are averaged; several sides are compared like layers. By default 1, 2 and
            4 with ``layers="auto"``, and otherwise 1.
        penalties: L2 penalties to choose from. On the first fold they are tried from the strongest down until the log
            loss rises; the other folds compare the best with its neighbors.
        class_weights: Weights of the classes in the loss and in the choice of layer and penalty: ``"balanced"`` gives
            every class the same weight, numbers give each class its own. By default every image has the same weight.
        batch_size: Images per forward pass.
        precision: Precision of the extraction.
        memory: Memory budget of the features in bytes, one third each for train, test and the solver's copy; no limit
            by default. Features beyond it lie in temporary files, and the result is the same. See
            :func:`extract_features`.
        seed: Seed of the split of train.

    Returns:
        Accuracy, probabilities, the chosen layers, and every candidate's scores.

    Raises:
        DataError: No labels, one class only, labels that are not 0…k-1 (unless they have names), or test classes
            missing from train; the sum of the features overflows.
        OptionError: ``class_weights`` or another option has another value.
        ShapeError: Train and test have features of different widths.
        UnknownNameError: The model has no layer of that name.

    Warns:
        DataWarning: More than half of the test images are training images, or a class has not a single hit.

    Example:
        >>> features, labels = torch.eye(4).repeat(5, 1), torch.arange(4).repeat(5)
        >>> linear_probe(torch.nn.Identity(), (features, labels)).accuracy
        1.0
    """
    fix = "For example penalties=(1e-4, 1e-2, 1.0)."
    penalties = [
        check_float("penalties", each, "(0, inf)", fix=fix) for each in check_sequence("penalties", penalties, fix=fix)
    ]
    seed = check_int("seed", seed, at_least=None, of=linear_probe)
    train_store, test_store, solver_store = FeatureStore(memory).split(3)
    start = time.monotonic()
    sides = pool_sides(pool if pool is not None else SIDES if _has_stages(backbone, layers) else 1)
    options: ExtractOptions = {"pool": sides, "batch_size": batch_size, "precision": precision}
    options["layers"] = _read_layers(backbone, layers, sides)
    train_data, train_names = with_class_names(train)
    given = labeled_features(backbone, train_data, "train", train_store, **options)
    classes = find_classes(given.labels, train_names)
    setup = _Setup(
        features=given.layers,
        labels=given.labels,
        classes=classes,
        class_weights=resolve_class_weights(class_weights, given.labels, classes),
        candidates=_candidates(list(given.layers), layers, sides),
        combine=layers == "auto",
        penalties=penalties,
        seed=seed,
        store=solver_store,
    )
    if test is None:
        scored = setup.score_by_folds()
    else:
        if layers == "auto":
            options["layers"] = list(given.layers)
        asked, targets = _read_test(backbone, test, classes, test_store, **options)
        check_widths(given.layers, asked.layers)
        fix = "Leave out test for a cross-validated accuracy."
        warn_of_training_images(given.marks, asked.marks, same=is_same_data(train, test), fix=fix)
        scored = setup.score_on_test(asked.layers, targets)
    report = class_report(scored.logits.argmax(1), scored.targets, classes.shown_names)
    warn_of_missed_classes(report, "Pass class_weights='balanced', or add training images of the class.")
    classifier = _classifier(backbone, scored.choice, setup, train_data, sides)
    return _result(scored, report, classifier, label_count=len(given.labels), seconds=time.monotonic() - start)


class _Scored(NamedTuple):
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
class _Setup:
    """Everything that the choice of layers depends on; nothing of test."""

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

    def score_on_test(self, features: Mapping[str, Tensor], targets: Tensor) -> _Scored:
        """Choose on all rows, then score every candidate once on the features and labels of test."""
        choice = self.choose()
        accuracies = {
            name: (choice.logits(features, name).argmax(1) == targets).float().mean().item() for name in choice.scores
        }
        return _Scored(choice, choice.logits(features), targets, accuracies, cross_validated=False)

    def score_by_folds(self) -> _Scored:
        """Choose on all rows, and score the choice that is repeated without each fold on the rows of the fold."""
        choice = self.choose()
        rows, logits = self._cross_validate()
        accuracies = {name: each.plain_accuracy for name, each in choice.scores.items()}
        return _Scored(choice, logits, self.labels[rows], accuracies, cross_validated=True)

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


def _read_test(
    backbone: Model, test: LabeledLike, classes: Classes, store: FeatureStore, **options: Unpack[ExtractOptions]
) -> tuple[LabeledFeatures, Tensor]:
    """Extract the features of test, and return its labels in the numbers of train."""
    data, names = with_class_names(test)
    asked = labeled_features(backbone, data, "test", store, **options)
    return asked, match_classes(asked.labels, names, classes)


def _classifier(backbone: Model, choice: Choice, setup: _Setup, train: Any, sides: Sequence[int]) -> Classifier:
    """Make the classifier of images from the chosen layers."""
    named = named_parts(backbone, [choice.name], sides)  # None for the plain name of a layer
    trained = {
        "by": "linear_probe",
        "images": len(setup.labels),
        "layer": choice.name,
        "penalty": choice.scores[choice.name].penalty,
        "seed": setup.seed,
    }
    head = copy.deepcopy(choice.head())  # the result's own head stays on the CPU
    layers = ((choice.name, sides[0]),) if named is None else named[choice.name]
    return trained_classifier(backbone, head, setup.classes, train, trained, layers=layers)


def _result(
    scored: _Scored, report: ClassReport, classifier: Classifier, *, label_count: int, seconds: float
) -> ProbeResult:
    choice = scored.choice
    return ProbeResult(
        accuracy=report.accuracy,
        layer=choice.name,
        layers={
            name: LayerScore(scored.accuracies[name], each.accuracy, each.penalty, choice.width(name), each.loss)
            for name, each in choice.scores.items()
        },
        last=_last(list(choice.scores)),
        predictions=scored.logits.argmax(1),
        probabilities=scored.logits.softmax(1),
        targets=scored.targets,
        head=choice.head(),
        classifier=classifier,
        class_report=report,
        label_count=label_count,
        rule="5-fold log loss" if label_count <= FEW else "log loss of a held-out fifth",
        cross_validated=scored.cross_validated,
        seconds=seconds,
    )


def _has_stages(backbone: Model, layers: Layers | Literal["auto"]) -> bool:
    return layers == "auto" and isinstance(unwrap(backbone), SpatialBackbone)


def _read_layers(backbone: Model, layers: Layers | Literal["auto"], sides: Sequence[int]) -> Layers | Literal["auto"]:
    """Return the layers to extract: the members of a sum apart, and the output of a model without stages."""
    if isinstance(layers, str):
        return "last" if layers == "auto" and not _has_stages(backbone, layers) else layers
    return list(dict.fromkeys(part for name in layers for part in _members(name, sides)))


def _members(name: str, sides: Sequence[int]) -> tuple[str, ...]:
    """Split the name of a sum; members without a grid have the first one."""
    if not isinstance(name, str) or PLUS not in name:
        return (name,)
    grid = f" {sides[0]}x{sides[0]}" if len(sides) > 1 else ""
    return tuple(part if GRID.fullmatch(part) else part + grid for part in name.split(PLUS))


def _candidates(
    extracted: Sequence[str], layers: Layers | Literal["auto"], sides: Sequence[int]
) -> dict[str, tuple[str, ...]]:
    """Map the candidates to the features of their members."""
    if isinstance(layers, str):
        return {name: (name,) for name in extracted}
    sums = {name: _members(name, sides) for name in layers if len(_members(name, sides)) > 1}
    alone = [name for name in layers if name not in sums]
    asked = {*alone, *grid_parts(alone, sides)}
    members = {part for parts in sums.values() for part in parts}
    return {name: (name,) for name in extracted if name in asked or name not in members} | sums


def _last(names: Sequence[str]) -> str:
    """Return the name of the last layer over its smallest grid."""
    layers = [found[1] if (found := GRID.fullmatch(name)) else name for name in names if PLUS not in name]
    return names[layers.index(layers[-1])] if layers else names[-1]
