"""Rows without near-duplicates: of several nearly equal rows, the first stays."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from pretextkit.evaluation._neighbor_search import nearest_rows
from pretextkit.evaluation._neighbors import ROUNDING, TYPICAL
from pretextkit.evaluation._shared_images import image_marks

__all__ = ["distinct_rows"]

BLOCK = 4096
"""Rows of each side that are compared at once; their similarities take 64 MiB."""

COMPONENTS = 62
"""Principal components in which pairs are looked for first."""

SAMPLE = 1000
"""Rows from which the usual distance of nearest neighbors is measured."""


def distinct_rows(features: Tensor, first: Tensor) -> Tensor:
    """Find rows of which no two are nearly equal.

    Two rows are near-duplicates if their cosine distance is at most a tenth of the median distance of a row to its
    nearest neighbor, as for :func:`~pretextkit.functional.near_duplicates`. All pairs are compared, in blocks.

    Args:
        features: ``n d``, rows of unit length.
        first: ``m``, int64: rows that stay where they have near-duplicates.

    Returns:
        Row numbers, ascending, except that those of ``first`` come first.

    Example:
        >>> distinct_rows(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]), torch.tensor([2]))
        tensor([2, 1])
    """
    rest = torch.ones(len(features), dtype=torch.bool)
    rest[first] = False
    order = torch.cat([first, rest.nonzero()[:, 0]])
    seen: set[int] = set()
    parts = torch.split(order, BLOCK)
    marks = [mark for part in parts for mark in image_marks(features[part] + 0.0).tolist()]  # + 0.0: -0.0 equals 0.0
    order = order[[mark not in seen and not seen.add(mark) for mark in marks]]  # type: ignore[func-returns-value]
    if len(order) < 2:
        return order
    rows = features[order]
    return order[_first_of_similar(rows, 1 - TYPICAL * _usual_distance(rows) - ROUNDING)]


def _usual_distance(rows: Tensor) -> float:
    """Median cosine distance of a row to its nearest neighbor, from a sample."""
    sample = torch.randperm(len(rows), generator=Generator().manual_seed(0))[:SAMPLE]
    similarities, _ = nearest_rows(rows[sample], rows, 2, leave_one_out=False)
    return float((1 - similarities[:, 1]).clamp(0, 2).median())


def _first_of_similar(rows: Tensor, threshold: float) -> Tensor:
    """Say for each row that no row before, which itself stays, has a dot product with it of ``threshold`` or more.

    A projection shortens all distances: pairs that are far apart in a few principal components are so in all.
    """
    stays = torch.ones(len(rows), dtype=torch.bool)
    left, right = _projections(rows)
    bound = threshold - 1 - ROUNDING  # of -distance ** 2 / 2, which is the dot product - 1
    for begin in range(0, len(rows), BLOCK):
        block = rows[begin : begin + BLOCK]
        similar = (block @ block.T >= threshold).triu(1)
        for row in similar.any(1).nonzero()[:, 0].tolist():
            if stays[begin + row]:
                stays[begin : begin + BLOCK] &= ~similar[row]
        kept = begin + stays[begin : begin + BLOCK].nonzero()[:, 0]
        for other in range(begin + BLOCK, len(rows), BLOCK):
            near = left[kept] @ right[other : other + BLOCK].T >= bound
            columns = other + near.any(0).nonzero()[:, 0]
            if len(columns):
                exact = rows[kept[near.any(1)]] @ rows[columns].T >= threshold
                stays[columns[exact.any(0)]] = False
    return stays


def _projections(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Project rows onto principal components; the product of the results is -1/2 of their squared distances."""
    if rows.shape[1] > COMPONENTS:
        _, directions = torch.linalg.eigh(rows.T @ rows)
        rows = rows @ directions[:, -COMPONENTS:]
    half, one = -rows.square().sum(1, keepdim=True) / 2, torch.ones(len(rows), 1)
    return torch.cat([rows, half, one], 1), torch.cat([rows, one, half], 1)
