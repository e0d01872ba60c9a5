"""k-means with seeds of k-means++, and the choice of rows that are far from the rows before."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from pretextkit._chunks import row_chunks

__all__ = ["draw_by_distance", "k_means", "nearest_distances", "spread_rows"]

ITERATIONS = 30
"""Most passes over the points; few points change their cluster after as many."""

FITTED = 20_000
"""Most points whose clusters are searched; more points join the clusters of these."""

Pick = Callable[[Tensor], int]
"""Function from squared distances ``n``, -1 for rows already chosen, to the number of the next row."""


def k_means(points: Tensor, k: int, generator: Generator, centers: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Divide points into ``k`` clusters by Lloyd's algorithm (k-means++, Arthur and Vassilvitskii 2007).

    Args:
        points: ``n d``, with ``n >= k``.
        k: Number of clusters.
        generator: Source of the draws of the seeds.
        centers: Centers ``c d`` to begin with, ``c <= k``; the other seeds are points drawn far from them.

    Returns:
        Centers ``k d``, and the cluster ``n`` of each point; clusters may be empty if points are equal.

    Example:
        >>> points = torch.tensor([[0.0], [0.1], [5.0], [5.1]])
        >>> centers, clusters = k_means(points, 2, Generator().manual_seed(0))
        >>> centers.sort(0).values[:, 0], bool(clusters[0] == clusters[1] != clusters[2])
        (tensor([0.0500, 5.0500]), True)
    """
    centers, everything = points[:0] if centers is None else centers, points
    if len(points) > FITTED:
        points = points[torch.randperm(len(points), generator=generator)[:FITTED]]
    nearest = nearest_distances(points, centers)
    seeds, _ = spread_rows(points, k - len(centers), nearest, draw_by_distance(generator), generator)
    centers = torch.cat([centers, points[seeds]])
    clusters = _nearest(points, centers)
    for _ in range(ITERATIONS):
        sums = torch.zeros_like(centers).index_add_(0, clusters, points)
        counts = clusters.bincount(minlength=k)[:, None]
        centers = torch.where(counts > 0, sums / counts.clamp(min=1), centers)
        before, clusters = clusters, _nearest(points, centers)
        if torch.equal(before, clusters):
            break
    return centers, clusters if points is everything else _nearest(everything, centers)


def spread_rows(points: Tensor, count: int, nearest: Tensor, pick: Pick, generator: Generator) -> tuple[Tensor, Tensor]:
    """Choose rows one by one, by their distance to the nearest row that is already chosen.

    Args:
        points: ``n d``.
        count: Number of rows to choose.
        nearest: Squared distances ``n`` to the nearest point that is taken already, from :func:`nearest_distances`; -1
            for rows that must not be chosen. If all are infinite, the first row is drawn at random.
        pick: Choice of a row by the squared distances.
        generator: Source of the draw of the first row.

    Returns:
        Row numbers ``count``, and the distance ``count`` of each row at its choice; infinite for a random first row.

    Example:
        >>> points = torch.tensor([[0.0], [1.0], [5.0]])
        >>> nearest = nearest_distances(points, points[:1])
        >>> spread_rows(points, 2, nearest, lambda squared: int(squared.argmax()), Generator())
        (tensor([2, 1]), tensor([5., 1.]))
    """
    rows: list[int] = []
    distances: list[float] = []
    for _ in range(count):
        free = bool(nearest.isinf().all())
        row = int(torch.randint(len(points), (1,), generator=generator)) if free else pick(nearest)
        rows.append(row)
        distances.append(max(0.0, float(nearest[row])) ** 0.5)
        nearest = torch.minimum(nearest, nearest_distances(points, points[row : row + 1]))
        nearest[row] = -1.0
    return torch.tensor(rows, dtype=torch.int64), torch.tensor(distances)


def nearest_distances(points: Tensor, taken: Tensor) -> Tensor:
    """Compute the squared distance of each of ``points`` ``n d`` to the nearest of ``taken`` ``m d``.

    Example:
        >>> nearest_distances(torch.tensor([[0.0], [3.0]]), torch.tensor([[1.0]]))
        tensor([1., 4.])
    """
    nearest = torch.full((len(points),), torch.inf)
    squares = points.square().sum(1)
    for point in taken:
        nearest = torch.minimum(nearest, (squares + point.square().sum() - 2 * (points @ point)).clamp(min=0))
    return nearest


def draw_by_distance(generator: Generator) -> Pick:
    """Make the pick of k-means++: rows in proportion to their squared distance.

    Example:
        >>> draw_by_distance(Generator().manual_seed(0))(torch.tensor([-1.0, 0.0, 3.0]))
        2
    """

    def draw(squared: Tensor) -> int:
        weights = (squared + 1e-12).where(squared >= 0, 0.0)  # where only equal rows are left, any of them
        return int(torch.multinomial(weights, 1, generator=generator))

    return draw


def _nearest(points: Tensor, centers: Tensor) -> Tensor:
    half = centers.square().sum(1) / 2
    chunks = row_chunks(len(points), len(centers), points.device)
    return torch.cat([(points[rows] @ centers.T - half).argmax(1) for rows in chunks])
