"""Linear probe: multinomial logistic regression on frozen features."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor

from pretextkit._validation import (
    check_classes,
    check_classes_seen,
    check_float,
    check_int,
    check_sequence,
    check_widths,
)
from pretextkit.data import LabeledLike
from pretextkit.data._splits import stratified_split
from pretextkit.errors import DataError
from pretextkit.evaluation._features import ExtractOptions, Layers, Model, labeled_features
from pretextkit.evaluation._solvers._logistic import LogisticModel, fit_logistic
from pretextkit.evaluation._storage import FeatureStore, Standardized, row_slices
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
    """Accuracy on the held-out part of train, by which layer and penalty are chosen."""
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
    """Chosen layer: the best on a held-out part of train."""
    layers: Mapping[str, LayerScore]
    """Layer name to scores, for every probed layer."""
    predictions: Tensor = field(repr=False)
    """Predicted test labels ``n`` of the chosen layer."""
    targets: Tensor = field(repr=False)
    """True test labels ``n``."""
    head: LinearHead = field(repr=False)
    """Classifier of the chosen layer, from raw features to logits."""
    seconds: float = field(repr=False)
    """Wall-clock time in seconds, extraction included."""

    def __str__(self) -> str:
        rows = ", ".join(f"{name} {score.accuracy:.1%}" for name, score in self.layers.items())
        return f"linear probe: {self.accuracy:.1%} at {self.layer} ({rows})"


def linear_probe(
    backbone: Model,
    train: LabeledLike,
    test: LabeledLike,
    *,
    layers: Layers = "last",
    pool: int | Sequence[int] = 1,
    penalties: Sequence[float] = PENALTIES,
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

    Args:
        backbone: Module or function from images to features.
        train: Pair (images, labels), ``Dataset`` or ``DataLoader``; images ``n c h w`` uint8 or float in [0, 1], or
            features ``n d``; labels 0…k-1; images labeled -1 are left out.
        test: Test images with labels, in the same forms as ``train``.
        layers: ``"last"``, ``"all"`` stages, or names of layers; see :func:`extract_features`.
        pool: Side of the grid over which maps are averaged; several sides are compared like layers.
        penalties: L2 penalties to choose from.
        batch_size: Images per forward pass.
        precision: Precision of the extraction.
        memory: Memory budget of the features in bytes, one third each for train, test and the solver's copy; no limit
            by default. Features beyond it lie in temporary files, and the result is the same. See
            :func:`extract_features`.
        seed: Seed of the split of train.

    Returns:
        Accuracy, the chosen layer, and every layer's scores.

    Raises:
        DataError: No labels, one class only, labels that are not 0…k-1, or test classes missing from train; the sum of
            the features overflows.
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
    train_layers, train_labels = labeled_features(backbone, train, "train", train_store, **options)
    test_layers, test_labels = labeled_features(backbone, test, "test", test_store, **options)
    classes = check_classes(train_labels)
    check_classes_seen(test_labels, classes)
    check_widths(train_layers, test_layers)
    folds = list(_folds(train_labels, seed))
    all_rows = torch.arange(len(train_labels))
    scores: dict[str, LayerScore] = {}
    heads: dict[str, LinearHead] = {}
    for name, features in train_layers.items():
        mean, std = _moments(features, name)
        grid = torch.tensor(penalties, dtype=torch.float32)
        standardized = Standardized(features, all_rows, mean, std)
        best, validation, warm_start = _choose_penalty(standardized, train_labels, classes, grid, folds, solver_store)
        solution = fit_logistic(
            standardized, train_labels, classes, grid[best : best + 1], start=warm_start, store=solver_store
        )
        heads[name] = _fold_in(solution.weight[0], solution.bias[0], mean, std)
        predictions = _predict(heads[name], test_layers[name])
        accuracy = (predictions == test_labels).float().mean().item()
        scores[name] = LayerScore(accuracy, validation, penalties[best], features.shape[1])
    chosen = max(scores, key=lambda name: scores[name].validation)
    return ProbeResult(
        accuracy=scores[chosen].accuracy,
        layer=chosen,
        layers=scores,
        predictions=_predict(heads[chosen], test_layers[chosen]),
        targets=test_labels,
        head=heads[chosen],
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


def _choose_penalty(
    features: Standardized,
    labels: Tensor,
    classes: int,
    penalties: Tensor,
    folds: Sequence[tuple[Tensor, Tensor]],
    store: FeatureStore,
) -> tuple[int, float, LogisticModel]:
    """Choose the penalty with the highest held-out accuracy; the lowest held-out loss breaks ties.

    Returns:
        Index of the penalty, its held-out accuracy, and the model fitted on the last fold, to warm-start the final fit.
    """
    correct = torch.zeros(len(penalties), dtype=torch.float32)
    loss = torch.zeros(len(penalties), dtype=torch.float32)
    count = 0
    for fit_rows, heldout_rows in folds:
        fit, heldout = (replace(features, rows=features.rows[rows]) for rows in (fit_rows, heldout_rows))
        model = fit_logistic(fit, labels[fit_rows], classes, penalties, max_steps=CHOOSING_STEPS, store=store)
        for part in row_slices(len(heldout), max(features.shape[1], model.bias.numel())):
            logits, targets = model.logits(heldout[part]), labels[heldout_rows[part]]  # g n k, n
            correct += (logits.argmax(2) == targets).sum(1)
            loss -= logits.log_softmax(2)[:, torch.arange(len(targets)), targets].sum(1)
        count += len(heldout)
    best = max(range(len(penalties)), key=lambda i: (correct[i].item(), -loss[i].item()))
    warm_start = LogisticModel(*(values[best : best + 1] for values in model))
    return best, correct[best].item() / count, warm_start


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
