"""Nearest neighbors: what is far from every normal image is strange."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from pretextkit._validation import check_int
from pretextkit.anomaly._scores import AnomalyScores
from pretextkit.errors import ShapeError, unknown_name
from pretextkit.evaluation._features import Layers, Model, extract_features
from pretextkit.training._hardware import Precision

__all__ = ["Metric", "join_layers", "nearest_distances", "neighbor_anomaly_score"]

Metric = Literal["cosine", "euclidean"]

DISTANCES_AT_ONCE = 2**24
"""64 MiB of them."""


def neighbor_anomaly_score(
    backbone: Model,
    normal: Any,
    images: Any,
    *,
    k: int = 2,
    metric: Metric = "cosine",
    layers: Layers = "last",
    pool: int = 1,
    batch_size: int = 256,
    precision: Precision = "auto",
) -> AnomalyScores:
    """Score images by the mean distance of their features to those of the ``k`` nearest normal images.

    Nothing is trained on top of the backbone, and nothing is assumed of the normal images, which may be of several
    kinds (Bergman et al. 2020, arXiv 2002.10445). There are no maps: see :func:`patch_anomaly_score` for them. A normal
    image that is scored against itself has distance 0, so calibrate on others. The backbone does not change.

    Args:
        backbone: Any module or function from images to features; pixels themselves are ``torch.nn.Flatten()``.
        normal: Normal images: tensor ``n c h w``, numpy array, ``Dataset``, ``DataLoader`` or a folder's path.
        images: Likewise, to be scored.
        k: Neighbors; all normal images where there are fewer.
        metric: ``"cosine"``, one minus the similarity, or ``"euclidean"``.
        layers: As for :func:`~pretextkit.functional.extract_features`. Several are joined: the cosine is the mean of
            theirs, and the squared Euclidean distance the sum of theirs.
        pool: Side of the grid over which maps are averaged.
        batch_size: Images at a time.
        precision: Of the extraction.

    Returns:
        A score for each image.

    Raises:
        UnknownNameError: There is no metric, or the backbone no layer, of that name.
        OptionError: ``k`` or ``batch_size`` is below 1.
        ShapeError: Normal and other images have features of different widths.
        DataError: Features are NaN or infinite.

    Example:
        >>> normal, images = torch.eye(3)[:2], torch.eye(3)
        >>> neighbor_anomaly_score(torch.nn.Identity(), normal, images, k=1).scores.round(decimals=4)
        tensor([0., 0., 1.])
    """
    if metric not in get_args(Metric):
        raise unknown_name("metric", metric, get_args(Metric))
    k = check_int("k", k, of=neighbor_anomaly_score)
    known, queries = (
        extract_features(backbone, data, layers=layers, pool=pool, batch_size=batch_size, precision=precision).layers
        for data in (normal, images)
    )
    if metric == "euclidean":
        return AnomalyScores(nearest_distances(*join_layers(known, queries), k))
    known, queries = ({name: nn.functional.normalize(v) for name, v in each.items()} for each in (known, queries))
    # Of vectors of unit length, half the squared distance is one minus the cosine.
    distances = nearest_distances(*join_layers(known, queries), k, square=True)
    return AnomalyScores(distances / (2 * len(known)))


def join_layers(known: Mapping[str, Tensor], queries: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Put the features ``n d`` of all layers side by side.

    Raises:
        ShapeError: The two do not have the same widths.

    Example:
        >>> layers = {"stage1": torch.zeros(3, 2), "stage2": torch.ones(3, 1)}
        >>> join_layers(layers, layers)[0].shape
        torch.Size([3, 3])
    """
    widths, others = ([values.shape[1] for values in layers.values()] for layers in (known, queries))
    if widths != others:
        raise ShapeError(
            "features of one width from normal images and from those to score",
            got=f"{sum(widths)} and {sum(others)}",
            fix="Resize the images to one size.",
        )
    return torch.cat(list(known.values()), 1), torch.cat(list(queries.values()), 1)


def nearest_distances(known: Tensor, queries: Tensor, k: int, *, square: bool = False) -> Tensor:
    """Average the distances, or their squares, of ``queries`` ``m d`` to their ``k`` nearest in ``known`` ``n d``.

    Queries are compared in chunks, so that memory does not grow with their number.

    Example:
        >>> nearest_distances(torch.tensor([[0.0], [1.0], [9.0]]), torch.tensor([[3.0]]), 2)
        tensor([2.5000])
    """
    means = []
    for chunk in torch.split(queries, max(1, DISTANCES_AT_ONCE // len(known))):
        nearest = torch.cdist(chunk, known).topk(min(k, len(known)), largest=False).values
        means.append((nearest.square() if square else nearest).mean(1))
    return torch.cat(means)
