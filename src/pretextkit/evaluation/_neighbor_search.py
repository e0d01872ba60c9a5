"""Search of the most similar rows in blocks: memory does not grow with the number of similarities."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

__all__ = ["QUERY_CHUNK", "cosine_neighbors", "grouped_topk", "nearest_rows", "similar_pairs"]

QUERY_CHUNK, REFERENCE_CHUNK = 1024, 2**16
"""Rows compared at once; their similarities take 256 MiB."""
FEWEST_COLUMNS = 1 << 14
"""Columns from which groups pay: below some 10,000, ``topk`` alone is faster (benchmarks/comparisons/probes.py)."""

PAIR_CHUNK = 4096
"""Rows of each side whose similarities are compared with a threshold at once; they take 64 MiB."""

GROUP_SIZE = 32
"""Similarities per group in :func:`grouped_topk`."""


def cosine_neighbors(queries: Tensor, reference: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Find the ``k`` reference rows of highest cosine similarity to each query.

    Args:
        queries: ``m d``.
        reference: ``n d``.
        k: Number of neighbors, at most ``n``.

    Returns:
        Cosine similarities ``m k`` in descending order, and row numbers ``m k``.

    Example:
        >>> cosine_neighbors(torch.tensor([[3.0, 4.0]]), torch.eye(2), 2)
        (tensor([[0.8000, 0.6000]]), tensor([[1, 0]]))
    """
    normalized = nn.functional.normalize(queries), nn.functional.normalize(reference)
    return nearest_rows(*normalized, k, leave_one_out=False)


def nearest_rows(queries: Tensor, reference: Tensor, k: int, *, leave_one_out: bool) -> tuple[Tensor, Tensor]:
    """Find the ``k`` rows of ``reference`` ``n d`` with the highest dot product with each of ``queries`` ``m d``.

    All queries are compared with one chunk of ``reference`` before the next chunk, to read ``reference`` only once.

    Args:
        queries: ``m d``.
        reference: ``n d``.
        k: Number of neighbors.
        leave_one_out: ``queries`` are ``reference``, and no row is its own neighbor.

    Returns:
        Dot products ``m k`` in descending order, and row numbers ``m k``.
    """
    similarities, neighbors = queries.new_empty(len(queries), 0), torch.empty(len(queries), 0, dtype=torch.int64)
    for begin in range(0, len(reference), REFERENCE_CHUNK):
        end = min(begin + REFERENCE_CHUNK, len(reference))  # c = end - begin reference rows
        merged = []
        for rows in torch.split(torch.arange(len(queries)), QUERY_CHUNK):  # q query rows
            products = queries[rows] @ reference[begin:end].T  # q c
            if leave_one_out:
                own = rows[(begin <= rows) & (rows < end)]
                products[own - rows[0], own - begin] = -torch.inf
            values, columns = grouped_topk(products, min(k, end - begin))  # q k, q k
            ranked = torch.cat([similarities[rows], values], 1).sort(stable=True, descending=True)  # q 2k
            candidates = torch.cat([neighbors[rows], columns + begin], 1).gather(1, ranked.indices)  # q 2k
            merged.append((ranked.values[:, :k], candidates[:, :k]))  # q k, q k
        similarities, neighbors = (torch.cat(each) for each in zip(*merged, strict=True))  # m k, m k
    return similarities, neighbors


def similar_pairs(
    queries: Tensor, reference: Tensor, threshold: float, *, once: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    """Find all pairs of rows whose dot product reaches a threshold, one block of similarities after the other.

    Args:
        queries: ``m d``.
        reference: ``n d``.
        threshold: Smallest dot product.
        once: ``queries`` are ``reference``: each pair of different rows is given once, the smaller number first.

    Yields:
        Row numbers ``p 2`` of queries and reference, and dot products ``p``.

    Example:
        >>> rows = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
        >>> list(similar_pairs(rows, rows, 0.9, once=True))
        [(tensor([[0, 2]]), tensor([1.]))]
    """
    for first in range(0, len(queries), PAIR_CHUNK):
        for second in range(first if once else 0, len(reference), PAIR_CHUNK):
            products = queries[first : first + PAIR_CHUNK] @ reference[second : second + PAIR_CHUNK].T
            if once and first == second:
                products = products.masked_fill(torch.ones_like(products, dtype=torch.bool).tril(), -torch.inf)
            rows = torch.nonzero(products >= threshold)  # p 2
            if len(rows):
                yield rows + torch.tensor([first, second], device=rows.device), products[rows[:, 0], rows[:, 1]]


def grouped_topk(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Find the ``k`` highest values of each row, faster than ``topk`` on long rows.

    The columns are divided into groups of 32. The ``k`` highest values lie in the ``k`` groups with the highest maxima,
    and most of the work is a maximum.

    Args:
        values: ``m n``.
        k: At most ``n``.

    Returns:
        Values ``m k`` in descending order, and column numbers ``m k``.

    Example:
        >>> grouped_topk(torch.tensor([[1.0, 3.0, 2.0]]), 2)
        (tensor([[3., 2.]]), tensor([[1, 2]]))
    """
    count, columns = values.shape
    groups = columns // GROUP_SIZE
    if columns < FEWEST_COLUMNS or groups < 2 * k:
        highest = values.topk(k)
        return highest.values, highest.indices
    grouped = values[:, : groups * GROUP_SIZE].view(count, GROUP_SIZE, groups)  # m 32 g; a group is a column
    best = grouped.amax(1).topk(k).indices[:, None]  # m 1 k
    candidates = grouped.gather(2, best.expand(-1, GROUP_SIZE, -1)).flatten(1)  # m 32k
    numbers = best + groups * torch.arange(GROUP_SIZE, device=values.device)[:, None]  # m 32 k
    rest = torch.arange(groups * GROUP_SIZE, columns, device=values.device)  # r < 32
    highest = torch.cat([candidates, values[:, rest]], 1).topk(k)  # m k
    numbers = torch.cat([numbers.flatten(1), rest.expand(count, -1)], 1)  # m 32k+r
    return highest.values, numbers.gather(1, highest.indices)  # m k, m k
