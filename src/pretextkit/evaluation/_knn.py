"""The nearest-neighbor probe: do images with like features have like labels?"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from pretextkit._validation import check_classes, check_classes_seen, check_float, check_int, check_widths
from pretextkit.evaluation._features import Model
from pretextkit.evaluation._labeled import labeled_features
from pretextkit.evaluation._storage import check_memory, row_slices
from pretextkit.training._hardware import Precision

__all__ = ["KNNResult", "cosine_neighbors", "knn_probe"]

CHUNK, KNOWN = 1024, 2**16
"""Queries compared at once, and with how many: their similarities take 256 MiB."""
GROUP = 32
"""Similarities of which the highest is looked at first."""


@dataclass(frozen=True)
class KNNResult:
    """What a nearest-neighbor probe found."""

    accuracy: float
    """On test."""
    k: int
    """Neighbors that voted."""
    predictions: Tensor = field(repr=False)
    """``n`` test labels, as the neighbors see them."""
    targets: Tensor = field(repr=False)
    """``n`` true test labels."""
    seconds: float = field(repr=False)
    """Extraction included."""

    def __str__(self) -> str:
        return f"{self.k}-NN probe: {self.accuracy:.1%}"


def knn_probe(
    backbone: Model,
    train: Any,
    test: Any = None,
    *,
    k: int = 20,
    temperature: float = 0.07,
    batch_size: int = 256,
    precision: Precision = "auto",
    memory: float = math.inf,
) -> KNNResult:
    """Classify each test image by its most similar training images.

    Each of the ``k`` neighbors of highest cosine similarity votes for its label with the weight
    ``exp(similarity / temperature)`` (Wu et al. 2018, arXiv 1805.01978). Nothing is trained and nothing chosen, so that
    the figure is cheap and cannot be tuned. Similarities are made in parts, so that memory does not grow with them.

    Args:
        backbone: Any module or function from images to features; features ``n d`` pass through ``nn.Identity()``.
        train: Pair (images, labels), ``Dataset`` or ``DataLoader``; label -1 is unlabeled and left out.
        test: Likewise; without it, or where it is ``train`` itself or a pair of the same two, every training image is
            classified by the others.
        k: Neighbors; all of them where there are fewer.
        temperature: Smaller lets the nearest count more.
        batch_size: Images at a time.
        precision: Of the extraction.
        memory: Bytes that may be taken by features, half by those of train and half by those of test. What takes more
            lies in temporary files; the result is the same. See :func:`extract_features`.

    Returns:
        Accuracy and predictions.

    Raises:
        DataError: No labels, one class only, labels that are not 0…k-1, or test classes that train has not.
        ShapeError: Train and test have features of different widths.
        OptionError: ``k`` or ``temperature`` is out of range.

    Example:
        >>> features, labels = torch.eye(4).repeat(2, 1), torch.arange(4).repeat(2)
        >>> knn_probe(torch.nn.Identity(), (features, labels), k=1).accuracy
        1.0
    """
    k = check_int("k", k, of=knn_probe)
    temperature = check_float("temperature", temperature, "(0, inf)", of=knn_probe)
    memory = check_memory(memory)
    begun = time.monotonic()
    options: dict[str, Any] = {"batch_size": batch_size, "precision": precision, "memory": memory / 2}
    known_layer, labels = labeled_features(backbone, train, "train", **options)
    alone = test is None or _same(train, test)
    query_layer, targets = (known_layer, labels) if alone else labeled_features(backbone, test, "test", **options)
    classes = check_classes(labels)
    check_classes_seen(targets, classes)
    check_widths(known_layer, query_layer)
    (known,), (queries,) = known_layer.values(), query_layer.values()
    k = min(k, len(known) - alone)
    for values in (known,) if alone else (known, queries):
        for part in row_slices(*values.shape):
            nn.functional.normalize(values[part], out=values[part])
    similarity, rows = _most_similar(queries, known, k, alone=alone)
    predictions = []
    for nearest, which in zip(torch.split(similarity, CHUNK), torch.split(rows, CHUNK), strict=True):
        votes = torch.zeros(len(which), classes)
        votes.scatter_add_(1, labels[which], ((nearest - nearest[:, :1]) / temperature).exp())
        predictions.append(votes.argmax(1))
    predicted = torch.cat(predictions)
    accuracy = (predicted == targets).float().mean().item()
    return KNNResult(accuracy, k, predicted, targets, time.monotonic() - begun)


def cosine_neighbors(queries: Tensor, known: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Find the ``k`` rows of ``known`` ``n d`` whose directions are most like those of ``queries`` ``m d``.

    Args:
        queries: ``m d``.
        known: ``n d``.
        k: How many, at most ``n``.

    Returns:
        Cosines ``m k``, the highest first, and numbers of rows ``m k``.

    Example:
        >>> cosine_neighbors(torch.tensor([[3.0, 4.0]]), torch.eye(2), 2)
        (tensor([[0.8000, 0.6000]]), tensor([[1, 0]]))
    """
    return _most_similar(nn.functional.normalize(queries), nn.functional.normalize(known), k, alone=False)


def _most_similar(queries: Tensor, known: Tensor, k: int, *, alone: bool) -> tuple[Tensor, Tensor]:
    """Find the ``k`` rows of ``known`` with the highest products; where ``queries`` are ``known``, none finds itself.

    All queries meet a part of ``known`` before the next part is looked at, so that it is read once from where it lies.
    """
    similarity, numbers = queries.new_empty(len(queries), 0), torch.empty(len(queries), 0, dtype=torch.int64)
    for part in torch.split(torch.arange(len(known)), KNOWN):
        begin, end = int(part[0]), int(part[-1]) + 1
        found = []
        for rows in torch.split(torch.arange(len(queries)), CHUNK):
            products = queries[rows] @ known[begin:end].T
            if alone:
                own = rows[(begin <= rows) & (rows < end)]
                products[own - rows[0], own - begin] = -torch.inf
            values, columns = highest(products, min(k, end - begin))
            both = torch.cat([similarity[rows], values], 1).sort(stable=True, descending=True)
            which = torch.cat([numbers[rows], columns + begin], 1).gather(1, both.indices)
            found.append((both.values[:, :k], which[:, :k]))
        similarity, numbers = (torch.cat(each) for each in zip(*found, strict=True))
    return similarity, numbers


def highest(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Give the ``k`` highest of each row of ``m n``, the highest first, and their columns.

    Columns are first thrown into groups of 32: the ``k`` highest are in the ``k`` groups whose highest are highest.
    Most of the work is then a maximum, which is several times faster than ``topk``.

    Example:
        >>> highest(torch.tensor([[1.0, 3.0, 2.0]]), 2)
        (tensor([[3., 2.]]), tensor([[1, 2]]))
    """
    count, columns = values.shape
    groups = columns // GROUP
    if groups < 2 * k:
        found = values.topk(k)
        return found.values, found.indices
    grouped = values[:, : groups * GROUP].view(count, GROUP, groups)  # a group is a column of these
    best = grouped.amax(1).topk(k).indices[:, None]
    among = grouped.gather(2, best.expand(-1, GROUP, -1)).flatten(1)
    numbers = (best + groups * torch.arange(GROUP, device=values.device)[:, None]).flatten(1)
    rest = torch.arange(groups * GROUP, columns, device=values.device)
    found = torch.cat([among, values[:, rest]], 1).topk(k)
    return found.values, torch.cat([numbers, rest.expand(count, -1)], 1).gather(1, found.indices)


def _same(train: Any, test: Any) -> bool:
    if isinstance(train, tuple) and isinstance(test, tuple):
        return len(train) == len(test) and all(one is other for one, other in zip(train, test, strict=True))
    return test is train
