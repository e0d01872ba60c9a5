"""Methods of selection: the protocol, and the baselines."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Generator, Tensor

from pretextkit.selection._kmeans import Pick, draw_by_distance, nearest_distances, spread_rows

__all__ = ["Choice", "SelectionMethod", "choose_k_center", "choose_k_means_plus_plus", "choose_random"]


class Choice(NamedTuple):
    """Rows in the order in which to label them."""

    rows: Tensor
    """``n``, int64."""
    scores: Tensor
    """``n``, float32: a number for each row, whose meaning the method decides."""
    score: str
    """Name of that number, such as typicality."""


class SelectionMethod(Protocol):
    """A function that orders the rows to label; the first ``m`` rows are the choice of ``m``."""

    def __call__(self, features: Tensor, labeled: Tensor, count: int, generator: Generator, /) -> Choice:
        """Choose ``count`` of the features ``n d``, of unit length and without near-duplicates.

        Args:
            features: ``n d``, float32, rows of unit length.
            labeled: ``m``, int64: rows that have labels already, and must not be chosen.
            count: Number of rows to choose, at most ``n - m``.
            generator: Source of all random draws.
        """
        ...


def choose_k_center(features: Tensor, labeled: Tensor, count: int, generator: Generator) -> Choice:
    """Choose the image furthest from all chosen images (k-center greedy; Sener and Savarese 2018, arXiv 1708.00489).

    Images far from all others are outliers: with few labels, this is worse than a random choice.

    Example:
        >>> choose_k_center(torch.eye(3), torch.tensor([1]), 2, Generator()).rows
        tensor([0, 2])
    """
    return _spread(features, labeled, count, lambda squared: int(squared.argmax()), generator)


def choose_k_means_plus_plus(features: Tensor, labeled: Tensor, count: int, generator: Generator) -> Choice:
    """Draw images in proportion to their squared distance from all chosen images (Arthur and Vassilvitskii 2007).

    Example:
        >>> choose_k_means_plus_plus(torch.eye(3), torch.tensor([1]), 2, Generator()).rows.sort().values
        tensor([0, 2])
    """
    return _spread(features, labeled, count, draw_by_distance(generator), generator)


def choose_random(features: Tensor, labeled: Tensor, count: int, generator: Generator) -> Choice:
    """Draw images at random.

    Example:
        >>> choose_random(torch.eye(3), torch.tensor([1]), 2, Generator()).rows.sort().values
        tensor([0, 2])
    """
    order = torch.randperm(len(features), generator=generator)
    rows = order[~torch.isin(order, labeled)][:count]
    return Choice(rows, torch.ones(len(rows)), "no score")


def _spread(features: Tensor, labeled: Tensor, count: int, pick: Pick, generator: Generator) -> Choice:
    nearest = nearest_distances(features, features[labeled])
    nearest[labeled] = -1.0
    return Choice(*spread_rows(features, count, nearest, pick, generator), "distance")
