"""Probes: linear_probe compared with scikit-learn and lightly, knn_probe with both and with a matrix product."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor, nn

import pretextkit as pk
from comparisons.timing import Comparison, Effort, Row, no_lower_accuracy, race, same_accuracy
from pretextkit.data._splits import stratified_split
from pretextkit.functional import knn_probe, linear_probe, pretrain

Check = Callable[[float, float], Row]
PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
NEIGHBORS, TEMPERATURE = 20, 0.07


class Labeled(NamedTuple):
    """Features, or images, and their labels."""

    values: Tensor
    labels: Tensor


def unless(effort: Effort, check: Check) -> Check | None:
    """Skip the check of accuracies in quick runs, which have too few images."""
    return None if effort.quick else check


def features(train: int, test: int, width: int = 512, classes: int = 10) -> tuple[Labeled, Labeled]:
    """Draw features similar to a backbone's: correlated, not negative, and about 80 % separable."""
    generator = Generator().manual_seed(0)
    mixing = torch.randn(width, width, generator=generator) * torch.linspace(1, 0, width)[:, None].square()
    centers = torch.randn(classes, width, generator=generator) * 0.25
    labels = torch.randint(classes, (train + test,), generator=generator)
    noise = torch.randn(train + test, width, generator=generator)
    values = ((centers[labels] + noise) @ mixing / 8).relu()
    return Labeled(values[:train], labels[:train]), Labeled(values[train:], labels[train:])


def logistic_regression(train: Labeled, test: Labeled) -> float:
    """Repeat the steps of the probe with scikit-learn: standardize, choose the penalty on a fifth of train, refit."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    mean, std = train.values.mean(0), train.values.std(0).clamp(min=1e-6)
    train_x, test_x = (((one.values - mean) / std).numpy() for one in (train, test))
    labels = train.labels.numpy()
    fit, held_out = (rows.numpy() for rows in stratified_split(train.labels, 0.8, seed=0))

    def fitted(penalty: float, rows: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # after the default of 100 iterations
            return LogisticRegression(C=1 / (penalty * len(rows))).fit(train_x[rows], labels[rows])

    best = max(PENALTIES, key=lambda penalty: fitted(penalty, fit).score(train_x[held_out], labels[held_out]))
    return float(fitted(best, range(len(train_x))).score(test_x, test.labels.numpy()))


def linear_on_features(effort: Effort) -> Row:
    train, test = features(effort.of(50_000, 6_000), effort.of(10_000, 500), effort.of(512, 64))

    def ours() -> float:
        return linear_probe(nn.Identity(), train, test, penalties=PENALTIES).accuracy

    return race(ours, lambda: logistic_regression(train, test), effort, rounds=5, check=unless(effort, same_accuracy))


def lightly_classifier(backbone: Any, train: Labeled, test: Labeled, epochs: int) -> float:
    """Train lightly's LinearClassifier on a frozen backbone with Lightning, without logs and checkpoints."""
    import logging

    from lightly.utils.benchmarking import LinearClassifier
    from pytorch_lightning import Trainer
    from torch.utils.data import DataLoader, TensorDataset

    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    torch.manual_seed(0)
    classifier: Any = LinearClassifier(
        backbone, batch_size_per_device=256, feature_dim=backbone.feature_dim, num_classes=10
    )
    trainer: Any = Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    data = TensorDataset(train.values.float() / 255, train.labels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # advice on numbers of workers
        trainer.fit(classifier, DataLoader(data, batch_size=256, shuffle=True))
    classifier.eval()
    with torch.no_grad():
        parts = torch.split(test.values, 256)
        predictions = torch.cat([classifier(part.float() / 255).argmax(1) for part in parts])
    return (predictions == test.labels).float().mean().item()


def linear_on_images(effort: Effort) -> Row:
    """Probe after one epoch of rotation: features of random weights are too small for lightly's learning rate."""
    data = pk.data.load("sample")
    train = Labeled(data.train_images, data.train_labels)
    train = Labeled(*(one[: effort.of(4000, 256)] for one in train))
    test = Labeled(data.test_images, data.test_labels)
    torch.manual_seed(0)
    backbone = pk.models.SmallCNN(in_channels=1)
    pretrain(pk.tasks.Rotation(backbone), train.values, epochs=1, batch_size=effort.of(128, 32), progress=False)
    backbone.eval().requires_grad_(False)
    return race(
        lambda: linear_probe(backbone, train, test).accuracy,
        lambda: lightly_classifier(backbone, train, test, epochs=effort.of(90, 2)),
        effort,
        rounds=3,
        check=unless(effort, no_lower_accuracy),
    )


def lightly_neighbors(train: Labeled, test: Labeled) -> float:
    """Call lightly's knn_predict in chunks of 1,000 queries, because it stores all similarities of a chunk."""
    from lightly.utils.benchmarking.knn import knn_predict

    bank = nn.functional.normalize(train.values).T
    correct = 0
    for values, labels in zip(torch.split(test.values, 1000), torch.split(test.labels, 1000), strict=True):
        queries = nn.functional.normalize(values)
        found = knn_predict(queries, bank, train.labels, num_classes=10, knn_k=NEIGHBORS, knn_t=TEMPERATURE)
        correct += int((found[:, 0] == labels).sum())
    return correct / len(test.labels)


def sklearn_neighbors(train: Labeled, test: Labeled) -> float:
    """Classify with scikit-learn and the same weights; its cosine distance is 1 - similarity."""
    import numpy as np
    from sklearn.neighbors import KNeighborsClassifier

    classifier = KNeighborsClassifier(
        NEIGHBORS, weights=lambda distance: np.exp(-distance / TEMPERATURE), algorithm="brute", metric="cosine"
    )
    classifier.fit(train.values.numpy(), train.labels.numpy())
    return float(classifier.score(test.values.numpy(), test.labels.numpy()))


def product_alone(train: Labeled, test: Labeled) -> None:
    """Compute only the similarities of normalized features, in chunks of 1,024 queries."""
    reference, queries = nn.functional.normalize(train.values), nn.functional.normalize(test.values)
    for rows in torch.split(queries, 1024):
        rows @ reference.T


def neighbors(peer: str, effort: Effort) -> Row:
    train, test = features(effort.of(50_000, 2_000), effort.of(10_000, 400), effort.of(512, 64))

    def ours() -> float:
        return knn_probe(nn.Identity(), train, test, k=NEIGHBORS, temperature=TEMPERATURE).accuracy

    if peer == "product":
        return race(ours, lambda: product_alone(train, test), effort, rounds=5)
    classify = {"lightly": lightly_neighbors, "scikit-learn": sklearn_neighbors}[peer]
    return race(ours, lambda: classify(train, test), effort, rounds=5, check=unless(effort, same_accuracy))


def highest_similarities(columns: int, effort: Effort) -> Row:
    """Find the highest similarities of 256 queries, by groups and by ``topk`` alone."""
    from pretextkit.evaluation._neighbor_search import grouped_topk

    values = torch.randn(effort.of(256, 8), columns, generator=torch.Generator().manual_seed(0))

    def same_values(ours: Tensor, theirs: Tensor) -> Row:
        assert torch.equal(ours, theirs)
        return {}

    return race(
        lambda: grouped_topk(values, NEIGHBORS)[0],
        lambda: values.topk(NEIGHBORS).values,
        effort,
        rounds=9,
        check=same_values,
    )


COMPARISONS = [
    Comparison("highest similarities, 256 x 50,000", "torch.topk", partial(highest_similarities, 50_000), 1.5),
    Comparison("linear_probe, 50,000 x 512, 5 penalties", "scikit-learn's LogisticRegression", linear_on_features, 2.0),
    Comparison("linear_probe, 4,000 images", "lightly's LinearClassifier, 90 epochs", linear_on_images, 30.0),
    *(
        Comparison("knn_probe, 10,000 queries x 50,000 x 512", name, partial(neighbors, peer), bound)
        for name, peer, bound in (
            ("lightly's knn_predict", "lightly", 1.2),
            ("scikit-learn, brute force", "scikit-learn", 1.2),
            ("the floor: the matrix product alone", "product", 1 / 1.3),
        )
    ),
]
