"""ProbCover: images whose neighborhoods cover most of the others."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from pretextkit._chunks import row_chunks
from pretextkit._validation import check_float, check_int
from pretextkit.selection._kmeans import k_means
from pretextkit.selection._methods import Choice

__all__ = ["ProbCover"]

SAMPLE = 2000
"""Images on which the radius is measured."""

IMPURE = 0.05
"""Share of neighborhoods that may hold an image of another cluster."""


SMALLEST = 1e-3
"""Radius that is halved no more: only equal images are as near."""


@dataclass(frozen=True)
class ProbCover:
    """Choose the image whose neighborhood covers most images not yet covered (Yehuda et al. 2022, arXiv 2205.11320).

    Neighborhoods are counted again in blocks: memory grows with the number of images, and not with its square.
    Where every image is covered, covering begins again with half the radius, or half of that, until an image is not
    covered.

    Args:
        radius: Radius of a neighborhood, as a Euclidean distance of features of unit length. By default the largest
            radius with which 95 % of the neighborhoods lie in one cluster, for as many clusters of k-means as there are
            ``classes``. This is the rule of the paper.
        classes: Number of classes, or a guess of it; only without ``radius``.

    Raises:
        OptionError: A number is out of range.

    Example:
        >>> features = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.6, 0.8], [-1.0, 0.0]])
        >>> ProbCover(radius=0.7)(features, torch.tensor([]), 2, Generator()).rows
        tensor([1, 3])
    """

    radius: float | None = None
    classes: int = 10

    def __post_init__(self) -> None:
        fix = "Leave it out to measure it."
        if self.radius is not None:
            object.__setattr__(self, "radius", check_float("radius", self.radius, "(0, 2]", fix=fix))
        object.__setattr__(self, "classes", check_int("classes", self.classes, at_least=2, of=type(self)))

    def __call__(self, features: Tensor, labeled: Tensor, count: int, generator: Generator) -> Choice:
        """Choose ``count`` of the features ``n d``, besides the rows ``labeled``."""
        radius = self.radius or pure_radius(features, self.classes, generator)
        cover = _Cover(features, labeled.long(), radius)
        rows: list[int] = []
        gains: list[int] = []
        for _ in range(count):
            row, gain = cover.best()
            while gain < 1 and cover.radius > SMALLEST:
                cover = _Cover(
                    features, torch.cat([labeled.long(), torch.tensor(rows, dtype=torch.int64)]), cover.radius / 2
                )
                row, gain = cover.best()
            cover.add(torch.tensor([row]))
            rows.append(row)
            gains.append(gain)
        return Choice(torch.tensor(rows), torch.tensor(gains).float(), "covered images")


def pure_radius(features: Tensor, classes: int, generator: Generator) -> float:
    """Find the largest radius with which 95 % of the neighborhoods lie in one cluster of k-means.

    The neighborhood of an image is pure if the radius is below the distance to the nearest image of another cluster:
    the radius is a quantile of these distances.

    Example:
        >>> features = torch.nn.functional.normalize(torch.tensor([[9.0, 0.0], [9.0, 1.0], [0.0, 9.0], [1.0, 9.0]]))
        >>> round(pure_radius(features, 2, Generator().manual_seed(0)), 2)
        1.25
    """
    _, clusters = k_means(features, min(classes, len(features)), generator)
    sample = torch.randperm(len(features), generator=generator)[:SAMPLE]
    distances = []
    for part in row_chunks(len(sample), len(features), features.device):
        products = features[sample[part]] @ features.T
        products[clusters[sample[part], None] == clusters] = -1.0
        distances.append((2 - 2 * products.amax(1)).clamp(min=0).sqrt())
    return max(float(torch.cat(distances).quantile(IMPURE)), SMALLEST)


class _Cover:
    """Counts of uncovered images in the neighborhood of every image, while labels cover more and more of them."""

    def __init__(self, features: Tensor, labeled: Tensor, radius: float) -> None:
        self.features, self.radius = features, radius
        self.threshold = 1 - radius**2 / 2
        self.covered = torch.zeros(len(features), dtype=torch.bool)
        self.chosen = torch.zeros(len(features), dtype=torch.bool)
        self.counts = self._neighbors(torch.arange(len(features)))
        self.add(labeled)

    def best(self) -> tuple[int, int]:
        """Return the row that covers most, and how many images it covers."""
        counts = self.counts.masked_fill(self.chosen, -1)
        row = int(counts.argmax())
        return row, int(counts[row])

    def add(self, rows: Tensor) -> None:
        """Cover the neighborhoods of some rows."""
        self.chosen[rows] = True
        for row in rows:
            near = self.features @ self.features[row] >= self.threshold
            near[row] = True
            new = (near & ~self.covered).nonzero()[:, 0]
            self.covered[new] = True
            self.counts -= self._neighbors(new)

    def _neighbors(self, rows: Tensor) -> Tensor:
        """Count, for every image, the ``rows`` in its neighborhood."""
        counts = torch.zeros(len(self.features), dtype=torch.int64)
        for part in row_chunks(len(rows), len(self.features), rows.device):
            counts += (self.features[rows[part]] @ self.features.T >= self.threshold).sum(0)
        return counts
