"""TypiClust: the most typical image of each cluster."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor

from pretextkit._chunks import row_chunks
from pretextkit._validation import check_int
from pretextkit.selection._kmeans import k_means
from pretextkit.selection._methods import Choice

__all__ = ["TypiClust"]

FIRST_ROUND = 10
"""Labels after the first round; each further round doubles them."""

MOST_CLUSTERS = 500

SMALL = 5
"""Clusters of fewer images are outliers; their turn comes last. There are no more clusters than can be larger."""


@dataclass(frozen=True)
class TypiClust:
    """Choose typical images of the clusters without a label (Hacohen, Dekel and Weinshall 2022, arXiv 2202.02794).

    Features are divided into as many clusters as there will be labels, by k-means. The largest clusters without a
    label come first, and of each its most typical image: the one with the smallest mean distance to its neighbors in
    the cluster.

    The labels grow in rounds: 10, 20, 40 and so on. Each round begins with the clusters of the round before, counts its
    choices as labeled, and lies in front of all later rounds. The first ``m`` images are the choice of ``m``
    for every ``m``. In the paper, each number of images is a new choice, and active learning has the rounds used here.

    Args:
        neighbors: Neighbors over which distances are averaged; at most half of the cluster.

    Raises:
        OptionError: ``neighbors`` is not an integer >= 1.

    Example:
        >>> features = torch.nn.functional.normalize(torch.tensor([[9.0, 0], [9, 1], [9, 2], [0, 9], [1, 9]]))
        >>> TypiClust()(features, torch.tensor([3]), 1, Generator().manual_seed(0)).rows
        tensor([1])
    """

    neighbors: int = field(default=20)

    def __post_init__(self) -> None:
        object.__setattr__(self, "neighbors", check_int("neighbors", self.neighbors, of=type(self)))

    def __call__(self, features: Tensor, labeled: Tensor, count: int, generator: Generator) -> Choice:
        """Choose ``count`` of the features ``n d``, besides the rows ``labeled``."""
        taken = torch.zeros(len(features), dtype=torch.bool)
        taken[labeled] = True
        wanted, labels, centers = len(labeled) + count, FIRST_ROUND, features[:0]
        rows: list[int] = []
        scores: list[float] = []
        while len(rows) < count:
            while labels <= len(labeled) + len(rows):
                labels *= 2
            k = max(1, min(labels, MOST_CLUSTERS, len(features) // SMALL))
            centers, clusters = k_means(features, max(k, len(centers)), generator, centers)
            typicality = _Typicality(features, clusters, self.neighbors)
            for _ in range(min(labels, wanted) - len(labeled) - len(rows)):
                row = typicality.best(_next_cluster(clusters, taken), taken)
                taken[row] = True
                rows.append(row)
                scores.append(float(typicality.values[row]))
        return Choice(torch.tensor(rows), torch.tensor(scores), "typicality")


def _next_cluster(clusters: Tensor, taken: Tensor) -> int:
    """Find the cluster with the fewest labels, the largest of several; small clusters come last, full ones never."""
    sizes = clusters.bincount()
    labels = clusters[taken].bincount(minlength=len(sizes))
    keys = zip((sizes == labels).tolist(), (sizes < SMALL).tolist(), labels.tolist(), (-sizes).tolist(), strict=True)
    return min(enumerate(keys), key=lambda each: each[1])[0]


class _Typicality:
    """Typicality of the images of clusters, computed for one cluster when it is first asked for."""

    def __init__(self, features: Tensor, clusters: Tensor, neighbors: int) -> None:
        self.features, self.clusters, self.neighbors = features, clusters, neighbors
        self.values = torch.full((len(features),), torch.nan)
        self.members: dict[int, Tensor] = {}

    def best(self, cluster: int, taken: Tensor) -> int:
        """Return the most typical row of a cluster that is not taken."""
        if cluster not in self.members:
            members = self.members[cluster] = (self.clusters == cluster).nonzero()[:, 0]
            self.values[members] = _typicality(self.features[members], self.neighbors)
        members = self.members[cluster]
        free = members[~taken[members]]
        return int(free[self.values[free].argmax()])


def _typicality(rows: Tensor, neighbors: int) -> Tensor:
    """Inverse of the mean distance of each row to its nearest neighbors among at most half of the others."""
    k = min(neighbors, max(1, len(rows) // 2), len(rows) - 1)
    if k == 0:
        return torch.ones(1)
    means = []
    for part in row_chunks(len(rows), len(rows), rows.device):
        products = rows[part] @ rows.T
        products[torch.arange(len(part)), part] = -torch.inf  # not its own neighbor
        squared = 2 - 2 * products.topk(k, 1).values
        means.append(squared.clamp(min=0).sqrt().mean(1))
    return 1 / torch.cat(means).clamp(min=1e-6)
