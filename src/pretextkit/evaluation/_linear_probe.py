"""The linear probe: how much of the labels can be read off frozen features by a linear classifier?"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

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
from pretextkit.data._splits import stratified_split
from pretextkit.errors import DataError
from pretextkit.evaluation._features import Layers, Model
from pretextkit.evaluation._labeled import labeled_features
from pretextkit.evaluation._solvers._logistic import LogisticModel, fit_logistic
from pretextkit.evaluation._storage import Standardized, check_memory, row_slices
from pretextkit.models.heads import LinearHead
from pretextkit.training._hardware import Precision

__all__ = ["LayerScore", "ProbeResult", "linear_probe"]

PENALTIES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
CHOOSING_STEPS = 60
"""L-BFGS steps while penalties are compared: their order is settled long before their solutions."""

FEW = 5000
"""Up to so many labels the penalty is chosen by five-fold cross-validation, above by one split of a fifth."""


class LayerScore(NamedTuple):
    """How well a linear classifier reads one layer."""

    accuracy: float
    """On test."""
    validation: float
    """On the held-out split of train by which layer and penalty were chosen."""
    penalty: float
    """The chosen one."""
    feature_dim: int
    """``d``."""


@dataclass(frozen=True)
class ProbeResult:
    """What a linear probe found."""

    accuracy: float
    """On test, of the layer that was best on a split of train."""
    layer: str
    """That layer."""
    layers: Mapping[str, LayerScore]
    """Every layer that was probed."""
    predictions: Tensor = field(repr=False)
    """``n`` test labels, as that layer's classifier sees them."""
    targets: Tensor = field(repr=False)
    """``n`` true test labels."""
    head: LinearHead = field(repr=False)
    """That layer's classifier, from features as they are to logits."""
    seconds: float = field(repr=False)
    """Extraction included."""

    def __str__(self) -> str:
        rows = ", ".join(f"{name} {score.accuracy:.1%}" for name, score in self.layers.items())
        return f"linear probe: {self.accuracy:.1%} at {self.layer} ({rows})"


def linear_probe(
    backbone: Model,
    train: Any,
    test: Any,
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

    Features are extracted once, standardized by their mean and deviation on train, and classified by multinomial
    logistic regression by L-BFGS (Alain & Bengio 2016, arXiv 1610.01644, for probes of inner layers). The
    penalty, and the layer if there are several, are chosen on held-out parts of *train*; test is looked at once, at
    the end. Nothing about the backbone changes.

    Args:
        backbone: Any module or function from images to features.
        train: Pair (images, labels), ``Dataset`` or ``DataLoader``; images ``n c h w`` uint8 or float in [0, 1], or
            features ``n d``; labels 0…k-1, -1 being unlabeled and left out.
        test: Likewise.
        layers: ``"last"``, ``"all"`` stages, or names of layers; see :func:`extract_features`.
        pool: Grid over which maps are averaged; several sides are compared like layers.
        penalties: L2 penalties to choose from.
        batch_size: Images at a time.
        precision: Of the extraction.
        memory: Bytes that may be taken by features: a third by those of train, of test, and by the solver's copy. What
            takes more lies in temporary files; the result is the same. See :func:`extract_features`.
        seed: Of the split of train.

    Returns:
        Accuracy, the chosen layer, and every layer's scores.

    Raises:
        DataError: No labels, one class only, labels that are not 0…k-1, or test classes that train has not; features
            too large for their sum.
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
    third = check_memory(memory) / 3
    begun = time.monotonic()
    options = {"layers": layers, "pool": pool, "batch_size": batch_size, "precision": precision, "memory": third}
    train_layers, train_labels = labeled_features(backbone, train, "train", **options)
    test_layers, test_labels = labeled_features(backbone, test, "test", **options)
    classes = check_classes(train_labels)
    check_classes_seen(test_labels, classes)
    check_widths(train_layers, test_layers)
    folds = list(_folds(train_labels, seed))
    everything = torch.arange(len(train_labels))
    scores: dict[str, LayerScore] = {}
    heads: dict[str, LinearHead] = {}
    for name, features in train_layers.items():
        mean, std = _moments(features, name)
        grid = torch.tensor(penalties, dtype=torch.float32)
        rows = Standardized(features, everything, mean, std)
        best, validation, near = _choose_penalty(rows, train_labels, classes, grid, folds, third)
        solution = fit_logistic(rows, train_labels, classes, grid[best : best + 1], start=near, memory=third)
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
        seconds=time.monotonic() - begun,
    )


def _moments(features: Tensor, name: str) -> tuple[Tensor, Tensor]:
    """Give what standardizes features ``n d``: their mean and deviation, each ``d``."""
    mean, std = features.mean(0), features.std(0, correction=0)
    if not (mean + std).isfinite().all():
        raise DataError(
            f"features from layer {name!r} whose sum float32 can hold, which ends at 3.4e38",
            got=f"one of {features.abs().max():.2g}",
            fix="Scale them down; the probe standardizes them anyway.",
        )
    varies = std > 1e-6 * mean.abs() + 1e-30  # rounding, and what no weight could bring back, is constant: it stays 0
    return mean, torch.where(varies, std, torch.ones_like(std))


def _folds(labels: Tensor, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Split train into parts to fit on and parts to choose on: five of them while labels are few."""
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
    for held in range(5):
        if (fold == held).any() and (fold != held).any():
            yield torch.nonzero(fold != held)[:, 0], torch.nonzero(fold == held)[:, 0]


def _choose_penalty(
    features: Standardized,
    labels: Tensor,
    classes: int,
    penalties: Tensor,
    folds: Sequence[tuple[Tensor, Tensor]],
    memory: float,
) -> tuple[int, float, LogisticModel]:
    """Give the index of the penalty most accurate on the held-out parts (lowest loss at a tie), and that accuracy.

    And what was fitted with it to the last of the other parts, which is near to what all of train will give.
    """
    correct = torch.zeros(len(penalties))
    loss = torch.zeros(len(penalties))
    count = 0
    for fit, held in folds:
        known, asked = (replace(features, which=features.which[part]) for part in (fit, held))
        model = fit_logistic(known, labels[fit], classes, penalties, max_steps=CHOOSING_STEPS, memory=memory)
        for rows in row_slices(len(held), max(features.shape[1], model.bias.numel())):
            logits, targets = model.logits(asked[rows]), labels[held[rows]]
            correct += (logits.argmax(2) == targets).sum(1)
            loss -= logits.log_softmax(2)[:, torch.arange(len(targets)), targets].sum(1)
        count += len(held)
    best = max(range(len(penalties)), key=lambda i: (correct[i].item(), -loss[i].item()))
    near = LogisticModel(*(values[best : best + 1] for values in model))
    return best, correct[best].item() / count, near


def _fold_in(weight: Tensor, bias: Tensor, mean: Tensor, std: Tensor) -> LinearHead:
    """Make a classifier of features as they are out of one of standardized features."""
    with torch.random.fork_rng(devices=[]):  # a new layer draws its first weights
        head = LinearHead(*weight.shape).requires_grad_(False)
    scaled = weight / std[:, None]
    head.linear.weight.copy_(scaled.T)
    head.linear.bias.copy_(bias - mean @ scaled)
    return head


@torch.no_grad()
def _predict(head: LinearHead, features: Tensor) -> Tensor:
    parts = row_slices(len(features), max(head.linear.weight.shape))
    return torch.cat([head(features[rows]).argmax(1) for rows in parts])
