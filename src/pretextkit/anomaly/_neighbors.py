"""Score images by the distance of their features to the nearest normal features."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from pretextkit._validation import check_int
from pretextkit.anomaly._scores import AnomalyScores, files_of, full_images
from pretextkit.data import ImagesLike
from pretextkit.data._types import OnError, Size
from pretextkit.errors import ShapeError, unknown_name
from pretextkit.evaluation._features import Layers, Model, image_features
from pretextkit.training._hardware import Precision

__all__ = ["Metric", "join_layers", "nearest_distances", "neighbor_anomaly_score"]

Metric = Literal["cosine", "euclidean"]

DISTANCES_AT_ONCE = 2**24
"""Distances computed at once; they take 64 MiB."""


def neighbor_anomaly_score(
    backbone: Model,
    normal: ImagesLike,
    images: ImagesLike,
    *,
    k: int = 2,
    metric: Metric = "cosine",
    layers: Layers = "last",
    pool: int = 1,
    batch_size: int = 256,
    precision: Precision = "auto",
    size: Size | None = None,
    on_error: OnError = "raise",
) -> AnomalyScores:
    """Score images by the mean distance of their features to those of the ``k`` nearest normal images.

    No model is trained on top of the backbone, and the normal images may be of several kinds (Bergman et al. 2020,
    arXiv 2002.10445). Use :func:`patch_anomaly_score` for anomaly maps. A normal image scored against itself has
    distance 0, so calibrate on held-out images. The backbone is not changed.

    Args:
        backbone: Any module or function from images to features; ``torch.nn.Flatten()`` compares pixels.
        normal: Normal reference images: tensor ``n c h w``, numpy array, ``Dataset``, ``DataLoader`` or a folder's
            path.
        images: Images to score, from the same types of sources.
        k: Number of neighbors; all normal images if there are fewer.
        metric: ``"cosine"`` distance (one minus the similarity), or ``"euclidean"`` distance.
        layers: Layers, as for :func:`~pretextkit.functional.extract_features`. For several layers, cosine distances
            are averaged and squared Euclidean distances are summed.
        pool: Side of the grid to which feature maps are averaged.
        batch_size: Images per forward pass.
        precision: Precision of the forward passes.
        size: Side of the images of files or of a dataset, or a pair (height, width), as for
            :class:`~pretextkit.data.FolderImages`.
        on_error: ``"raise"`` an error for an image file that cannot be decoded, or ``"skip"`` it.

    Returns:
        A score for each image.

    Raises:
        UnknownNameError: There is no metric of that name, or the backbone has no layer of that name.
        OptionError: ``k`` or ``batch_size`` is below 1.
        ShapeError: Features of normal images and of images to score have different widths.
        DataError: Features are NaN or infinite.

    Example:
        >>> normal, images = torch.eye(3)[:2], torch.eye(3)
        >>> neighbor_anomaly_score(torch.nn.Identity(), normal, images, k=1).scores.round(decimals=4)
        tensor([0., 0., 1.])
    """
    if metric not in get_args(Metric):
        raise unknown_name("metric", metric, get_args(Metric))
    k = check_int("k", k, of=neighbor_anomaly_score)
    pair = full_images(normal, images, size=size, on_error=on_error)
    scored = partial(
        AnomalyScores,
        files=files_of(pair[1]),
        measure=f"{metric} distance to the nearest normal image{'' if k == 1 else 's'}",
        by="neighbor_anomaly_score",
    )
    reference, queries = (
        image_features(backbone, data, layers=layers, pool=pool, batch_size=batch_size, precision=precision).layers
        for data in pair
    )
    if metric == "euclidean":
        return scored(nearest_distances(*join_layers(reference, queries), k))
    reference, queries = (
        {name: nn.functional.normalize(values) for name, values in layers_of.items()}
        for layers_of in (reference, queries)
    )
    # For unit vectors, half the squared Euclidean distance is one minus the cosine.
    distances = nearest_distances(*join_layers(reference, queries), k, square=True)
    return scored(distances / (2 * len(reference)))


def join_layers(reference: Mapping[str, Tensor], queries: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Concatenate the features ``n d`` of all layers.

    Raises:
        ShapeError: Reference and query features have different widths.

    Example:
        >>> layers = {"stage1": torch.zeros(3, 2), "stage2": torch.ones(3, 1)}
        >>> join_layers(layers, layers)[0].shape
        torch.Size([3, 3])
    """
    widths, others = ([values.shape[1] for values in layers.values()] for layers in (reference, queries))
    if widths != others:
        raise ShapeError(
            "features of one width from normal images and from images to score",
            got=f"{sum(widths)} and {sum(others)}",
            fix="Resize all images to one size.",
        )
    return torch.cat(list(reference.values()), 1), torch.cat(list(queries.values()), 1)


def nearest_distances(reference: Tensor, queries: Tensor, k: int, *, square: bool = False) -> Tensor:
    """Average the (squared) distances of ``queries`` (``m d``) to their ``k`` nearest rows of ``reference`` (``n d``).

    Queries are compared in chunks to bound memory.

    Example:
        >>> nearest_distances(torch.tensor([[0.0], [1.0], [9.0]]), torch.tensor([[3.0]]), 2)
        tensor([2.5000])
    """
    means = []
    for chunk in torch.split(queries, max(1, DISTANCES_AT_ONCE // len(reference))):
        nearest = torch.cdist(chunk, reference).topk(min(k, len(reference)), largest=False).values
        means.append((nearest.square() if square else nearest).mean(1))
    return torch.cat(means)
