"""Linear probe: multinomial logistic regression on frozen features."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor

from pretextkit._validation import check_float, check_int, check_sequence, check_widths
from pretextkit.data import LabeledLike
from pretextkit.data._splits import stratified_split
from pretextkit.errors import DataError
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
    Layers,
    Model,
    labeled_features,
    pool_sides,
    read_grid,
)
from pretextkit.evaluation._solvers._logistic import LogisticModel, fit_logistic
from pretextkit.evaluation._storage import FeatureStore, Standardized, row_slices
from pretextkit.evaluation._trained_classifiers import trained_classifier
from pretextkit.inference._classifier import Classifier
from pretextkit.metrics._classification import ClassReport, class_report, warn_of_missed_classes
from pretextkit.models.heads import LinearHead
from pretextkit.training._hardware import Precision

__all__ = ["LayerScore", "ProbeResult", "linear_probe"]

PENALTIES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
CHOOSING_STEPS = 60
"""L-BFGS steps of the fits that compare penalties; their ranking settles long before their solutions."""

FEW = 5000
"""Largest number of labels for five-fold cross-validation of the penalty; above it, one fifth is held out once."""


class LayerScore(NamedTuple):
    """Scores of the linear classifier on one layer."""

    accuracy: float
    """Accuracy on test."""
    validation: float
    """Accuracy on the held-out part of train, by which layer and penalty are chosen; weighted by the class weights."""
    penalty: float
    """Chosen L2 penalty."""
    feature_dim: int
    """Width ``d`` of the features."""


@dataclass(frozen=True)
class ProbeResult:
    """Result of a linear probe."""

    accuracy: float
    """Accuracy on test of the chosen layer."""
    layer: str
    """Layer with the best score on a held-out part of train."""
    layers: Mapping[str, LayerScore]
    """Layer name to scores, for every probed layer."""
    predictions: Tensor = field(repr=False)
    """Predicted test labels ``n`` of the chosen layer."""
    targets: Tensor = field(repr=False)
    """True test labels ``n``."""
    head: LinearHead = field(repr=False)
    """Classifier of the chosen layer, from raw features to logits; a class without training images has -inf."""
    classifier: Classifier = field(repr=False)
    """Backbone, chosen layer and head, to predict the classes of images, and to save. It shares the backbone."""
    class_report: ClassReport = field(repr=False)
    """Recall and precision of each class on test."""
    seconds: float = field(repr=False)
    """Wall-clock time in seconds, extraction included."""

    @property
    def balanced_accuracy(self) -> float:
        """Mean recall of the classes on test."""
        return self.class_report.balanced_accuracy

    def __str__(self) -> str:
        rows = ", ".join(f"{name} {score.accuracy:.1%}" for name, score in self.layers.items())
        return f"linear probe: {self.accuracy:.1%}{self.class_report.note} at {self.layer} ({rows})"


def linear_probe(
    backbone: Model,
    train: LabeledLike,
    test: LabeledLike,
    *,
    layers: Layers = "last",
    pool: int | Sequence[int] = 1,
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
    penalty, and the layer if there are several, are chosen on held-out parts of *train*. Test is used once, at the end.
    The backbone does not change.

    If train and test both have class names, as folders and torchvision's datasets do, the classes of test are matched
    by name. Classes without training images are never predicted.

    Args:
        backbone: Module or function from images to features.
        train: Pair (images, labels), ``Dataset`` or ``DataLoader``; images ``n c h w`` uint8 or float in [0, 1], or
            features ``n d``; labels 0…k-1; images labeled -1 are left out.
        test: Test images with labels, in the same forms as ``train``.
        layers: ``"last"``, ``"all"`` stages, or names of layers; see :func:`extract_features`.
        pool: Side of the grid over which maps are averaged; several sides are compared like layers.
        penalties: L2 penalties to choose from.
        class_weights: Weights of the classes in the loss and in the choice of layer and penalty: ``"balanced"`` gives
            every class the same weight, numbers give each class its own. By default every image has the same weight.
        batch_size: Images per forward pass.
        precision: Precision of the extraction.
        memory: Memory budget of the features in bytes, one third each for train, test and the solver's copy; no limit
            by default. Features beyond it lie in temporary files, and the result is the same. See
            :func:`extract_features`.
        seed: Seed of the split of train.

    Returns:
        Accuracy, the chosen layer, and every layer's scores.

    Raises:
        DataError: No labels, one class only, labels that are not 0…k-1 (unless they have names), or test classes
            missing from train; the sum of the features overflows.
        OptionError: ``class_weights`` or another option has another value.
        ShapeError: Train and test have features of different widths.
        UnknownNameError: The model has no layer of that name.

    Example:
        >>> features, labels = torch.eye(4).repeat(5, 1), torch.arange(4).repeat(5)
        >>> linear_probe(torch.nn.Identity(), (features, labels), (features, labels)).accuracy
        1.0
    """
    fix = "For example penalties=(1e-4, 1e-2, 1.0)."
    penalties = [
        check_float("penalties", each, "(0, inf)", fix=fix) for each in check_sequence("penalties", penalties, fix=fix)
    ]
    seed = check_int("seed", seed, at_least=None, of=linear_probe)
    train_store, test_store, solver_store = FeatureStore(memory).split(3)
    start = time.monotonic()
    options: ExtractOptions = {"layers": layers, "pool": pool, "batch_size": batch_size, "precision": precision}
    (train_data, train_names), (test_data, test_names) = with_class_names(train), with_class_names(test)
    train_layers, train_labels = labeled_features(backbone, train_data, "train", train_store, **options)
    test_layers, test_labels = labeled_features(backbone, test_data, "test", test_store, **options)
    classes = find_classes(train_labels, train_names)
    test_labels = match_classes(test_labels, test_names, classes)
    weights = resolve_class_weights(class_weights, train_labels, classes)
    problem = _Problem(train_labels, classes, weights, torch.tensor(penalties, dtype=torch.float32), solver_store)
    check_widths(train_layers, test_layers)
    folds = list(_folds(train_labels, seed))
    all_rows = torch.arange(len(train_labels))
    scores: dict[str, LayerScore] = {}
    heads: dict[str, LinearHead] = {}
    for name, features in train_layers.items():
        mean, std = _moments(features, name)
        standardized = Standardized(features, all_rows, mean, std)
        best, validation, warm_start = problem.choose_penalty(standardized, folds)
        solution = problem.fit(standardized, all_rows, slice(best, best + 1), start=warm_start)
        heads[name] = _fold_in(*problem.every_class(solution), mean, std)
        predictions = _predict(heads[name], test_layers[name])
        accuracy = (predictions == test_labels).float().mean().item()
        scores[name] = LayerScore(accuracy, validation, penalties[best], features.shape[1])
    chosen = max(scores, key=lambda name: scores[name].validation)
    predictions = _predict(heads[chosen], test_layers[chosen])
    report = class_report(predictions, test_labels, classes.shown_names)
    warn_of_missed_classes(report, "Pass class_weights='balanced', or add training images of the class.")
    return ProbeResult(
        accuracy=scores[chosen].accuracy,
        layer=chosen,
        layers=scores,
        predictions=predictions,
        targets=test_labels,
        head=heads[chosen],
        classifier=trained_classifier(
            backbone,
            copy.deepcopy(heads[chosen]),
            classes,
            train_data,
            {"by": "linear_probe", "images": len(train_labels), "penalty": scores[chosen].penalty},
            layers=[read_grid(backbone, chosen, pool_sides(pool))],
        ),
        class_report=report,
        seconds=time.monotonic() - start,
    )


def _moments(features: Tensor, name: str) -> tuple[Tensor, Tensor]:
    """Return the mean and the standard deviation of features ``n d``, each ``d``; constant columns get deviation 1."""
    mean, std = features.mean(0), features.std(0, correction=0)
    if not (mean + std).isfinite().all():
        raise DataError(
            f"features from layer {name!r} whose sum fits float32 (3.4e38)",
            got=f"a feature of {features.abs().max():.2g}",
            fix="Scale the features down; the probe standardizes them anyway.",
        )
    varies = std > 1e-6 * mean.abs() + 1e-30  # treat rounding noise as a constant column
    return mean, torch.where(varies, std, torch.ones_like(std))


def _folds(labels: Tensor, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield pairs (rows to fit on, held-out rows): five folds for few labels, one split otherwise."""
    if len(labels) > FEW:
        yield stratified_split(labels, 0.8, seed=seed)
        return
    fold = torch.empty_like(labels)
    generator = torch.Generator().manual_seed(seed)
    offset = 0
    for label in torch.unique(labels):
        rows = torch.nonzero(labels == label)[:, 0]
        rows = rows[torch.randperm(len(rows), generator=generator)]
        fold[rows] = (torch.arange(len(rows)) + offset) % 5
        offset += len(rows)
    for number in range(5):
        heldout = fold == number
        if heldout.any() and not heldout.all():
            yield torch.nonzero(~heldout)[:, 0], torch.nonzero(heldout)[:, 0]


class _Problem:
    """The logistic regression of one probe, on labels ``0…k-1`` without the absent classes.

    Args:
        labels: Training labels ``n``.
        classes: Classes of the training labels.
        weights: Weight of each class, or None.
        penalties: Penalties ``g``.
        store: Storage of the solver's copy of the features.
    """

    def __init__(
        self, labels: Tensor, classes: Classes, weights: Tensor | None, penalties: Tensor, store: FeatureStore
    ) -> None:
        self.classes, self.penalties, self.store = classes, penalties, store
        self.labels = labels if classes.complete else torch.searchsorted(classes.present, labels)
        self.row_weights = None if weights is None else weights[labels]

    def fit(
        self,
        features: Standardized,
        rows: Tensor,
        grid: slice,
        *,
        start: LogisticModel | None = None,
        max_steps: int | None = None,
    ) -> LogisticModel:
        """Fit the penalties of ``grid`` to the features of ``rows``."""
        weights = None if self.row_weights is None else self.row_weights[rows]
        return fit_logistic(
            features,
            self.labels[rows],
            len(self.classes.present),
            self.penalties[grid],
            weights=None if weights is None else weights / weights.mean(),
            start=start,
            store=self.store,
            **({} if max_steps is None else {"max_steps": max_steps}),
        )

    def choose_penalty(
        self, features: Standardized, folds: Sequence[tuple[Tensor, Tensor]]
    ) -> tuple[int, float, LogisticModel]:
        """Choose the penalty with the highest held-out accuracy; the lowest held-out loss breaks ties.

        Returns:
            Index of the penalty, its held-out accuracy, and the model fitted on the last fold, to warm-start the final
            fit.
        """
        correct = torch.zeros(len(self.penalties), dtype=torch.float32)
        loss = torch.zeros(len(self.penalties), dtype=torch.float32)
        total = 0.0
        for fit_rows, heldout_rows in folds:
            fit, heldout = (replace(features, rows=features.rows[rows]) for rows in (fit_rows, heldout_rows))
            model = self.fit(fit, fit_rows, slice(None), max_steps=CHOOSING_STEPS)
            for part in row_slices(len(heldout), max(features.shape[1], model.bias.numel())):
                logits, targets = model.logits(heldout[part]), self.labels[heldout_rows[part]]  # g n k, n
                hits = logits.argmax(2) == targets  # g n
                losses = logits.log_softmax(2)[:, torch.arange(len(targets)), targets]
                if self.row_weights is None:
                    correct += hits.sum(1)
                    loss -= losses.sum(1)
                    total += len(targets)
                else:
                    weights = self.row_weights[heldout_rows[part]]
                    correct += hits.float() @ weights
                    loss -= losses @ weights
                    total += weights.sum().item()
        best = max(range(len(self.penalties)), key=lambda i: (correct[i].item(), -loss[i].item()))
        warm_start = LogisticModel(*(values[best : best + 1] for values in model))
        return best, correct[best].item() / total, warm_start

    def every_class(self, solution: LogisticModel) -> tuple[Tensor, Tensor]:
        """Return weights ``d k`` and biases ``k`` of all classes; the logit of an absent class is -inf."""
        weight, bias = solution.weight[0], solution.bias[0]
        if self.classes.complete:
            return weight, bias
        all_weights = torch.zeros(len(weight), self.classes.count)
        all_biases = torch.full((self.classes.count,), -torch.inf)
        all_weights[:, self.classes.present], all_biases[self.classes.present] = weight, bias
        return all_weights, all_biases


def _fold_in(weight: Tensor, bias: Tensor, mean: Tensor, std: Tensor) -> LinearHead:
    """Fold the standardization into the weights, to classify raw features."""
    with torch.random.fork_rng(devices=[]):  # a new layer draws random initial weights
        head = LinearHead(*weight.shape).to(weight.dtype).requires_grad_(False)
    scaled = weight / std[:, None]
    head.linear.weight.copy_(scaled.T)
    head.linear.bias.copy_(bias - mean @ scaled)
    return head


@torch.no_grad()
def _predict(head: LinearHead, features: Tensor) -> Tensor:
    parts = row_slices(len(features), max(head.linear.weight.shape))
    return torch.cat([head(features[rows]).argmax(1) for rows in parts])
