"""Logistic regression on features, with a penalty and a scale chosen by cross-validated log loss.

A weak penalty is often the most accurate, and too sure of its mistakes: by its log loss alone it would not be chosen.
Penalties are compared after the logits are scaled, and the classifier gets the scale.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor

from pretextkit.data._splits import stratified_split
from pretextkit.errors import DataError
from pretextkit.evaluation._calibration import best_scale, log_loss
from pretextkit.evaluation._classes import Classes
from pretextkit.evaluation._solvers._logistic import LogisticModel, fit_rotated, principal_directions, rotate
from pretextkit.evaluation._storage import FeatureStore, Standardized, row_slices
from pretextkit.models.heads import LinearHead

__all__ = [
    "PENALTIES",
    "LogisticProblem",
    "Validated",
    "fit_logistic_classifier",
    "folds",
    "predict_logits",
    "standardize",
]

PENALTIES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
CHOOSING_STEPS = 60
"""L-BFGS steps of the fits that compare penalties; their ranking settles long before their solutions."""

FEW = 5000
"""Largest number of labels for five-fold cross-validation; above it, one fifth is held out once."""

AT_ONCE = 3
"""Penalties that are fitted together, from the strongest down."""


def fit_logistic_classifier(
    features: Tensor,
    labels: Tensor,
    classes: Classes,
    *,
    class_weights: Tensor | None = None,
    penalties: Sequence[float] = PENALTIES,
    seed: int = 0,
) -> LinearHead:
    """Fit a linear classifier whose penalty and scale have the lowest log loss on held-out parts of the features.

    Args:
        features: ``n d``, float32 on the CPU, of any scale.
        labels: ``n``, int64, from 0 up.
        classes: Classes of the labels, from ``find_classes``.
        class_weights: Weight of each class, from ``resolve_class_weights``; equal weights by default.
        penalties: L2 penalties to choose from.
        seed: Seed of the folds.

    Returns:
        Classifier from raw features to logits, without gradient; a class without images has the logit -inf.

    Raises:
        DataError: The sum of the features overflows.

    Example:
        >>> from pretextkit.evaluation._classes import find_classes
        >>> features, labels = torch.eye(2).repeat(5, 1), torch.arange(2).repeat(5)
        >>> head = fit_logistic_classifier(features, labels, find_classes(labels, None))
        >>> head(features).argmax(1)
        tensor([0, 1, 0, 1, 0, 1, 0, 1, 0, 1])
    """
    problem = LogisticProblem(labels, classes, class_weights, penalties, seed=seed)
    return problem.solve(standardize(features, "last")).head


@dataclass(frozen=True)
class Validated:
    """Classifier of one kind of features, and its predictions of rows that it has not seen."""

    head: LinearHead = field(repr=False)
    """Classifier from raw features to logits, fitted to all rows."""
    penalty: float
    """Penalty with the lowest held-out log loss after scaling."""
    logits: Tensor = field(repr=False)
    """Scaled held-out logits ``m k`` of the present classes, in the order of ``LogisticProblem.heldout``."""


class LogisticProblem:
    """The logistic regressions of one probe: the same labels, folds and penalties for every kind of features.

    The features are rotated once to their principal directions and sorted by fold: the rows of a fold are a slice.

    Args:
        labels: Training labels ``n``.
        classes: Classes of the training labels; the models know only those that are present.
        class_weights: Weight of each class, or None.
        penalties: L2 penalties to choose from.
        seed: Seed of the folds.
        store: Storage of the solver's copy of the features; memory without a limit by default.
    """

    def __init__(
        self,
        labels: Tensor,
        classes: Classes,
        class_weights: Tensor | None,
        penalties: Sequence[float],
        *,
        seed: int,
        store: FeatureStore | None = None,
    ) -> None:
        self.classes, self.store = classes, store or FeatureStore()
        self.penalties = sorted(penalties, reverse=True)
        every = folds(labels, seed)
        held = torch.cat([torch.empty(0, dtype=torch.int64), *every])
        rest = torch.ones(len(labels), dtype=torch.bool)
        rest[held] = False
        self.order = torch.cat([held, torch.nonzero(rest)[:, 0]])
        ends = torch.tensor([0, *map(len, every)]).cumsum(0).tolist()
        self.folds = [slice(begin, end) for begin, end in pairwise(ends)]
        present = labels if classes.complete else torch.searchsorted(classes.present, labels)
        self.labels = present[self.order]
        self.weights = None if class_weights is None else class_weights[labels][self.order]

    @property
    def heldout(self) -> Tensor:
        """Row numbers ``m`` that are held out once."""
        return self.order[: self.folds[-1].stop if self.folds else 0]

    @cached_property
    def judged(self) -> Tensor:
        """Weights ``m`` of the held-out rows in scores; 0 for a class that all other rows of a fit lack."""
        weights = (
            torch.ones(len(self.heldout), dtype=torch.float32)
            if self.weights is None
            else self.weights[: len(self.heldout)].clone()
        )
        for fold in self.folds:
            seen = torch.cat([self.labels[part] for part in self._others(fold)])
            weights[fold] *= torch.isin(self.labels[fold], seen)
        return weights

    def solve(self, features: Standardized) -> Validated:
        """Choose the penalty with the lowest held-out log loss after scaling, and fit it to all rows."""
        features = replace(features, rows=features.rows[self.order])
        weights = None if self.weights is None else self.weights / self.weights.mean()
        variances, directions = principal_directions(features, weights)
        rotated = rotate(features, directions, self.store.scratch(len(features), len(variances)))
        penalty, start, logits = self._cross_validate(rotated, variances)
        scale = best_scale(logits, self.labels[: len(logits)], self.judged) if self.judged.any() else 1.0
        final = self._fit(rotated, variances, [penalty], [slice(None)], start=start, max_steps=200)
        weight = directions.float() @ final.weight[0]
        head = _fold_in(*self._every_class(scale * weight, scale * final.bias[0]), features.mean, features.std)
        return Validated(head, penalty, scale * logits)

    def _cross_validate(self, rotated: Tensor, variances: Tensor) -> tuple[float, LogisticModel | None, Tensor]:
        """Return the best penalty, its model of the last fold, and its held-out logits ``m k``.

        On the first fold, the penalties are tried from the strongest down until one is better than a weaker one. The
        other folds compare the best of them with its two neighbors.
        """
        logits = torch.zeros(len(self.heldout), len(self.classes.present), dtype=torch.float32)
        if not self.folds:
            return self.penalties[0], None, logits
        penalties, models = self._descend(rotated, variances)
        found = [logits.clone() for _ in penalties]
        for fold in self.folds:
            if fold != self.folds[0]:
                models = self._fit(rotated, variances, penalties, self._others(fold), max_steps=CHOOSING_STEPS)
            for each, of_fold in zip(found, _logits(rotated[fold], models), strict=True):
                each[fold] = of_fold
        losses = [self._scaled_loss(each, slice(0, len(each))) for each in found]
        best = losses.index(min(losses))
        return penalties[best], LogisticModel(*(values[best : best + 1] for values in models)), found[best]

    def _descend(self, rotated: Tensor, variances: Tensor) -> tuple[list[float], LogisticModel]:
        """Narrow the penalties on the first fold: the best and its neighbors, and their models."""
        first, count = self.folds[0], len(self.penalties) if self.judged[self.folds[0]].any() else 1
        tried: list[LogisticModel] = []
        losses: list[float] = []
        while len(losses) < count:
            penalties = self.penalties[:count][len(losses) : len(losses) + AT_ONCE]
            tried.append(self._fit(rotated, variances, penalties, self._others(first), max_steps=CHOOSING_STEPS))
            losses += [self._scaled_loss(each, first) for each in _logits(rotated[first], tried[-1])]
            if min(losses) < losses[-1]:
                break
        best = losses.index(min(losses))
        grid = slice(max(0, best - 1), min(best + 2, len(losses)))
        return self.penalties[grid], LogisticModel(*(torch.cat(values)[grid] for values in zip(*tried, strict=True)))

    def _scaled_loss(self, logits: Tensor, rows: slice) -> float:
        """Return the log loss of held-out rows after scaling; 0 if none of them is judged."""
        labels, weights = self.labels[rows], self.judged[rows]
        if not weights.any():
            return 0.0
        scale = best_scale(logits, labels, weights)
        return log_loss(scale * logits, labels, weights).double().sum().item()

    def _fit(
        self,
        rotated: Tensor,
        variances: Tensor,
        penalties: Sequence[float],
        parts: Sequence[slice],
        *,
        start: LogisticModel | None = None,
        max_steps: int,
    ) -> LogisticModel:
        weights = torch.ones(len(rotated), dtype=torch.float32) if self.weights is None else self.weights
        fitted = torch.cat([weights[part] for part in parts])
        return fit_rotated(
            rotated,
            variances * (weights.sum() / fitted.sum()),  # a part has at most the sum of squares of all rows
            self.labels,
            len(self.classes.present),
            torch.tensor(penalties, dtype=torch.float32),
            weights=None if self.weights is None else weights / fitted.mean(),
            parts=parts,
            start=start,
            max_steps=max_steps,
            least_gain=1e-6 if max_steps > CHOOSING_STEPS else 1e-5,
        )

    def _others(self, fold: slice) -> list[slice]:
        return [part for part in (slice(0, fold.start), slice(fold.stop, len(self.order))) if part.stop > part.start]

    def score(self, logits: Tensor) -> tuple[float, float, float]:
        """Return the log loss, the accuracy, and the accuracy without class weights of held-out logits ``m k``."""
        labels = self.labels[: len(logits)]
        if not self.judged.any():
            return 0.0, 0.0, 0.0
        hits = (logits.argmax(1) == labels).float()
        weights = self.judged / self.judged.sum()
        return log_loss(logits, labels, weights).sum().item(), (hits @ weights).item(), hits.mean().item()

    def _every_class(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Return weights ``d k`` and biases ``k`` of all classes; the logit of an absent class is -inf."""
        if self.classes.complete:
            return weight, bias
        all_weights = torch.zeros(len(weight), self.classes.count, dtype=torch.float32)
        all_biases = torch.full((self.classes.count,), -torch.inf, dtype=torch.float32)
        all_weights[:, self.classes.present], all_biases[self.classes.present] = weight, bias
        return all_weights, all_biases


def _logits(rotated: Tensor, model: LogisticModel) -> Tensor:
    """Apply a model to rotated features ``n r``, some rows at a time: ``g n k``."""
    parts = row_slices(len(rotated), max(rotated.shape[1], model.bias.numel()))
    return torch.cat([model.logits(rotated[part]) for part in parts], 1)


def standardize(features: Tensor, name: str, rows: Tensor | None = None) -> Standardized:
    """Standardize features ``n d`` by their mean and standard deviation; constant columns get deviation 1.

    Args:
        features: ``n d``.
        name: Name of the layer in the error.
        rows: Row numbers to use; all by default.

    Raises:
        DataError: The sum of the features overflows.
    """
    used = features if rows is None else features[rows]
    mean, std = used.mean(0), used.std(0, correction=0)
    if not (mean + std).isfinite().all():
        raise DataError(
            f"features from layer {name!r} whose sum fits float32 (3.4e38)",
            got=f"a feature of {used.abs().max():.2g}",
            fix="Scale the features down; the probe standardizes them anyway.",
        )
    varies = std > 1e-6 * mean.abs() + 1e-30  # treat rounding noise as a constant column
    rows = torch.arange(len(features)) if rows is None else rows
    return Standardized(features, rows, mean, torch.where(varies, std, torch.ones_like(std)))


def folds(labels: Tensor, seed: int) -> list[Tensor]:
    """Return the rows of each held-out fold: five folds for few labels, one fifth otherwise."""
    if len(labels) > FEW:
        return [stratified_split(labels, 0.8, seed=seed)[1]]
    return list(_five_folds(labels, seed))


def _five_folds(labels: Tensor, seed: int) -> Iterator[Tensor]:
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
            yield torch.nonzero(heldout)[:, 0]


def _fold_in(weight: Tensor, bias: Tensor, mean: Tensor, std: Tensor) -> LinearHead:
    """Fold the standardization into the weights, to classify raw features."""
    with torch.random.fork_rng(devices=[]):  # a new layer draws random initial weights
        head = LinearHead(*weight.shape).to(weight.dtype).requires_grad_(False)
    scaled = weight / std[:, None]
    head.linear.weight.copy_(scaled.T)
    head.linear.bias.copy_(bias - mean @ scaled)
    return head


@torch.no_grad()
def predict_logits(head: LinearHead, features: Tensor) -> Tensor:
    """Apply a head to features ``n d``, some rows at a time."""
    parts = row_slices(len(features), max(head.linear.weight.shape))
    return torch.cat([head(features[rows]) for rows in parts])
