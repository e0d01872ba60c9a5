"""Logistic regression on features, with a penalty chosen by cross-validated log loss."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from pretextkit.data._splits import stratified_split
from pretextkit.errors import DataError
from pretextkit.evaluation._classes import Classes
from pretextkit.evaluation._solvers._logistic import LogisticModel, fit_logistic
from pretextkit.evaluation._storage import FeatureStore, Standardized, row_slices
from pretextkit.models.heads import LinearHead

__all__ = ["PENALTIES", "CrossValidation", "LogisticProblem", "fit_logistic_classifier", "predict_logits"]

PENALTIES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
CHOOSING_STEPS = 60
"""L-BFGS steps of the fits that compare penalties; their ranking settles long before their solutions."""

FEW = 5000
"""Largest number of labels for five-fold cross-validation; above it, one fifth is held out once."""


def fit_logistic_classifier(
    features: Tensor,
    labels: Tensor,
    classes: Classes,
    *,
    class_weights: Tensor | None = None,
    penalties: Sequence[float] = PENALTIES,
    seed: int = 0,
) -> LinearHead:
    """Fit a linear classifier whose penalty has the lowest log loss on held-out parts of the features.

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
    standardized = standardize(features, "last")
    return problem.fit_head(standardized, problem.cross_validate(standardized))


@dataclass(frozen=True)
class CrossValidation:
    """Held-out scores of one kind of features, at the penalty with the lowest log loss."""

    best: int
    """Index of the penalty."""
    rows: Tensor
    """Held-out rows ``m``."""
    logits: Tensor
    """Logits ``m k`` of the present classes, each from a model that has not seen its row."""
    loss: float
    """Log loss; weighted by the class weights."""
    accuracy: float
    """Accuracy; weighted by the class weights."""
    start: LogisticModel = field(repr=False)
    """Model of the last fold, to begin the final fit."""


class LogisticProblem:
    """The logistic regressions of one probe: the same labels, folds and penalties for every kind of features.

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
        self.penalties = torch.tensor(list(penalties), dtype=torch.float32)
        self.labels = labels if classes.complete else torch.searchsorted(classes.present, labels)
        self.row_weights = torch.ones(len(labels)) if class_weights is None else class_weights[labels]
        self.weighted = class_weights is not None
        self.folds = list(folds(labels, seed))

    def cross_validate(self, features: Standardized) -> CrossValidation:
        """Fit every penalty on every fold, and keep the penalty with the lowest held-out log loss."""
        models = []
        losses = torch.zeros(len(self.penalties), dtype=torch.float64)
        for fit_rows, heldout_rows in self.folds:
            fit = replace(features, rows=features.rows[fit_rows])
            models.append(self._fit(fit, fit_rows, slice(None), max_steps=CHOOSING_STEPS))
            for part, logits in self._heldout_logits(features, heldout_rows, models[-1]):
                targets = self.labels[heldout_rows[part]].expand(len(logits), -1)[..., None]  # g n 1
                row_losses = -logits.log_softmax(2).gather(2, targets)[..., 0]  # g n
                losses += (row_losses @ self.row_weights[heldout_rows[part]]).double()
        best = int(losses.argmin())
        chosen = [LogisticModel(*(values[best : best + 1] for values in model)) for model in models]
        rows = torch.cat([heldout for _, heldout in self.folds])
        logits = torch.cat(
            [
                some[0]
                for (_, heldout), model in zip(self.folds, chosen, strict=True)
                for _, some in self._heldout_logits(features, heldout, model)
            ]
        )
        weights = self.row_weights[rows]
        hits = (logits.argmax(1) == self.labels[rows]).float()
        total = weights.sum().item()
        return CrossValidation(
            best, rows, logits, losses[best].item() / total, (hits @ weights).item() / total, chosen[-1]
        )

    def fit_head(self, features: Standardized, validated: CrossValidation) -> LinearHead:
        """Fit the chosen penalty to all rows, as a classifier of raw features."""
        grid = slice(validated.best, validated.best + 1)
        model = self._fit(features, torch.arange(len(self.labels)), grid, start=validated.start)
        return _fold_in(*self._every_class(model), features.mean, features.std)

    def _fit(
        self,
        features: Standardized,
        rows: Tensor,
        grid: slice,
        *,
        start: LogisticModel | None = None,
        max_steps: int = 200,
    ) -> LogisticModel:
        """Fit the penalties of ``grid`` to the features of ``rows``."""
        weights = self.row_weights[rows]
        return fit_logistic(
            features,
            self.labels[rows],
            len(self.classes.present),
            self.penalties[grid],
            weights=weights / weights.mean() if self.weighted else None,
            start=start,
            store=self.store,
            max_steps=max_steps,
        )

    @staticmethod
    def _heldout_logits(features: Standardized, rows: Tensor, model: LogisticModel) -> Iterator[tuple[slice, Tensor]]:
        """Yield slices of ``rows`` with their logits ``g n k``."""
        heldout = replace(features, rows=features.rows[rows])
        for part in row_slices(len(rows), max(features.shape[1], model.bias.numel())):
            yield part, model.logits(heldout[part])

    def _every_class(self, solution: LogisticModel) -> tuple[Tensor, Tensor]:
        """Return weights ``d k`` and biases ``k`` of all classes; the logit of an absent class is -inf."""
        weight, bias = solution.weight[0], solution.bias[0]
        if self.classes.complete:
            return weight, bias
        all_weights = torch.zeros(len(weight), self.classes.count)
        all_biases = torch.full((self.classes.count,), -torch.inf)
        all_weights[:, self.classes.present], all_biases[self.classes.present] = weight, bias
        return all_weights, all_biases


def standardize(features: Tensor, name: str) -> Standardized:
    """Standardize features ``n d`` by their mean and standard deviation; constant columns get deviation 1.

    Raises:
        DataError: The sum of the features overflows.
    """
    mean, std = features.mean(0), features.std(0, correction=0)
    if not (mean + std).isfinite().all():
        raise DataError(
            f"features from layer {name!r} whose sum fits float32 (3.4e38)",
            got=f"a feature of {features.abs().max():.2g}",
            fix="Scale the features down; the probe standardizes them anyway.",
        )
    varies = std > 1e-6 * mean.abs() + 1e-30  # treat rounding noise as a constant column
    return Standardized(features, torch.arange(len(features)), mean, torch.where(varies, std, torch.ones_like(std)))


def folds(labels: Tensor, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
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
