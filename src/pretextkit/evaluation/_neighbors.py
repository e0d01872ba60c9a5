"""Alike images: nearest neighbors in a database, and near duplicates, with their files."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pretextkit._display import Displayed
from pretextkit._validation import check_float, check_int, check_widths
from pretextkit.data import ImagesLike, as_source
from pretextkit.data._as_source import read_files
from pretextkit.data._image_files import find_files
from pretextkit.data._types import OnError, Size
from pretextkit.errors import DataError, OptionError
from pretextkit.evaluation._features import ExtractOptions, Layers, Model, image_features
from pretextkit.evaluation._neighbor_search import nearest_rows, similar_pairs
from pretextkit.evaluation._shared_images import is_same_data
from pretextkit.evaluation._storage import row_slices
from pretextkit.inference._predictions import show_table, table_cells, write_csv
from pretextkit.training._hardware import Precision

__all__ = ["Duplicates", "Neighbors", "near_duplicates", "nearest_neighbors", "unit_features"]

TYPICAL = 0.1
"""Default threshold of duplicates, as a part of the median distance between nearest neighbors."""

ROUNDING = 1e-6
"""Tolerance of the threshold: the product of a unit vector with itself misses 1 by some 1e-7."""

MOST_PAIRS = 5_000_000
"""Largest number of pairs: as many take 120 MB, and nobody reads more."""


@dataclass(frozen=True, repr=False)
class Neighbors(Displayed):
    """Nearest images of a database for each query, nearest first."""

    indices: Tensor = field(repr=False)
    """``m k``, int64: numbers of the images in the database."""
    distances: Tensor = field(repr=False)
    """``m k``, float32: cosine distances of the features, from 0 for the same direction to 2."""
    query_files: tuple[str, ...] = field(repr=False)
    """File of each query; its number, as a text, for images without files."""
    database_files: tuple[str, ...] = field(repr=False)
    """File of each image of the database; its number for images without files."""

    @property
    def rows(self) -> list[dict[str, str | int | float]]:
        """One row for each neighbor, with ``query``, ``rank`` from 1, ``neighbor`` and ``distance``."""
        return [
            {"query": query, "rank": rank, "neighbor": self.database_files[row], "distance": round(distance, 6)}
            for query, rows, distances in zip(
                self.query_files, self.indices.tolist(), self.distances.tolist(), strict=True
            )
            for rank, (row, distance) in enumerate(zip(rows, distances, strict=True), 1)
        ]

    def to_csv(self, path: str | Path) -> None:
        """Write the rows to a CSV file with a header."""
        write_csv(path, ("query", "rank", "neighbor", "distance"), self.rows)

    def __len__(self) -> int:
        return len(self.indices)

    def display_line(self) -> str:
        """Return the numbers of queries, neighbors and images."""
        return f"{len(self)} queries, {self.indices.shape[1]} neighbors of {len(self.database_files)} images"

    def display_table(self) -> list[list[str]]:
        """Return the first rows."""
        return table_cells(("query", "rank", "neighbor", "distance"), self.rows)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.display_line()})"

    def __str__(self) -> str:
        return show_table(("query", "rank", "neighbor", "distance"), self.rows)


@dataclass(frozen=True, repr=False)
class Duplicates(Displayed):
    """Pairs of images whose features are nearly equal, most alike first."""

    pairs: Tensor = field(repr=False)
    """``p 2``, int64: numbers of the first and the second image."""
    distances: Tensor = field(repr=False)
    """``p``, float32: cosine distances of the features."""
    files: tuple[str, ...] = field(repr=False)
    """File of each first image; its number, as a text, for images without files."""
    other_files: tuple[str, ...] = field(repr=False)
    """File of each second image; the same as ``files`` for duplicates within one set."""
    within: bool = field(repr=False)
    """Whether the pairs lie within one set."""

    @property
    def rows(self) -> list[dict[str, str | float]]:
        """One row for each pair, with ``first``, ``second`` and ``distance``."""
        return [
            {"first": self.files[one], "second": self.other_files[other], "distance": round(distance, 6)}
            for (one, other), distance in zip(self.pairs.tolist(), self.distances.tolist(), strict=True)
        ]

    @property
    def redundant(self) -> tuple[int, ...]:
        """Numbers of the images to leave out, so that no pair remains.

        Within one set, these are the second images of pairs whose first image stays. Of two sets, these are the second
        images: of ``near_duplicates(backbone, train, test)``, those of ``test``.
        """
        if not self.within:
            return tuple(sorted(set(self.pairs[:, 1].tolist())))
        gone: set[int] = set()
        for one, other in sorted(self.pairs.tolist()):  # by the first image: it stays or goes before it is asked
            if one not in gone:
                gone.add(other)
        return tuple(sorted(gone))

    def to_csv(self, path: str | Path) -> None:
        """Write the rows to a CSV file with a header."""
        write_csv(path, ("first", "second", "distance"), self.rows)

    def __len__(self) -> int:
        return len(self.pairs)

    def display_line(self) -> str:
        """Return the numbers of pairs and images."""
        sizes = f"{len(self.files)} images" if self.within else f"{len(self.files)} and {len(self.other_files)} images"
        return f"{len(self)} {'pair' if len(self) == 1 else 'pairs'} of {sizes}"

    def display_table(self) -> list[list[str]]:
        """Return the first rows."""
        return table_cells(("first", "second", "distance"), self.rows)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.display_line()})"

    def __str__(self) -> str:
        return show_table(("first", "second", "distance"), self.rows)


def nearest_neighbors(
    backbone: Model,
    queries: ImagesLike,
    database: ImagesLike | None = None,
    k: int = 5,
    *,
    layers: Layers = "last",
    pool: int = 1,
    batch_size: int = 256,
    precision: Precision = "auto",
    memory: float = math.inf,
    size: Size | None = None,
    on_error: OnError = "raise",
) -> Neighbors:
    """Find the most similar images of a database for each query, by the cosine distance of their features.

    Similarities are computed in blocks, and memory does not grow with their number.

    Args:
        backbone: Module or function from images to features; features ``n d`` pass through ``nn.Identity()``.
        queries: Images as for :func:`~pretextkit.functional.pretrain`; labels are ignored.
        database: Images among which neighbors are searched. If it is None or the same object as ``queries``, no image
            is its own neighbor.
        k: Number of neighbors; all images of the database if there are fewer.
        layers: One layer, as for :func:`extract_features`.
        pool: Side of the grid over which maps are averaged.
        batch_size: Images per forward pass.
        precision: Precision of the forward passes.
        memory: Memory budget of the features in bytes, half each for queries and database; see
            :func:`extract_features`.
        size: Side of the images of files or of a dataset, or a pair (height, width), as for
            :class:`~pretextkit.data.FolderImages`.
        on_error: ``"raise"`` an error for an image file that cannot be decoded, or ``"skip"`` it.

    Returns:
        Numbers, files and distances of the neighbors.

    Raises:
        OptionError: ``k`` is below 1, or there are several layers.
        DataError: There is only one image, without a database.
        ShapeError: Queries and database have features of different widths.

    Example:
        >>> features = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.8, 0.6]])
        >>> print(nearest_neighbors(torch.nn.Identity(), features, k=1))
        query  rank  neighbor  distance
        0      1     2         0.200
        1      1     2         0.400
        2      1     0         0.200
    """
    k = check_int("k", k, of=nearest_neighbors)
    options: ExtractOptions = {"layers": layers, "pool": pool, "batch_size": batch_size, "precision": precision}
    (rows, files), (others, other_files), within = _both_sets(
        backbone, (queries, database), (size, on_error), memory, options
    )
    similarities, indices = nearest_rows(rows, others, min(k, len(others) - within), leave_one_out=within)
    return Neighbors(indices, _distances(similarities), files, other_files)


def near_duplicates(
    backbone: Model,
    images: ImagesLike,
    others: ImagesLike | None = None,
    *,
    threshold: float | None = None,
    layers: Layers = "last",
    pool: int = 1,
    batch_size: int = 256,
    precision: Precision = "auto",
    memory: float = math.inf,
    size: Size | None = None,
    on_error: OnError = "raise",
) -> Duplicates:
    """Find pairs of images with nearly equal features, within one set or between two, such as train and test.

    All pairs are compared in blocks, and memory grows only with the number of pairs found. How near the features of
    duplicates are depends on the backbone: look at the pairs in the order of their distance, and set ``threshold``
    where they stop being duplicates. A copy that was cropped or mirrored is further away than one that was compressed.

    Args:
        backbone: Module or function from images to features; ``torch.nn.Flatten()`` compares pixels.
        images: Images as for :func:`~pretextkit.functional.pretrain`; labels are ignored.
        others: Second set: pairs between both sets are searched. By default, pairs within ``images`` are.
        threshold: Largest cosine distance of a pair; by default a tenth of the median distance of an image to its
            nearest neighbor.
        layers: One layer, as for :func:`extract_features`.
        pool: Side of the grid over which maps are averaged.
        batch_size: Images per forward pass.
        precision: Precision of the forward passes.
        memory: Memory budget of the features in bytes, half for each set; see :func:`extract_features`.
        size: Side of the images of files or of a dataset, or a pair (height, width), as for
            :class:`~pretextkit.data.FolderImages`.
        on_error: ``"raise"`` an error for an image file that cannot be decoded, or ``"skip"`` it.

    Returns:
        Pairs with their files and distances, most alike first.

    Raises:
        OptionError: ``threshold`` is out of range, or there are several layers.
        DataError: There is only one image, or there are more than five million pairs.
        ShapeError: The features of the two sets have different widths.

    Example:
        >>> features = torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 0.0]])
        >>> near_duplicates(torch.nn.Identity(), features).pairs
        tensor([[0, 2]])
    """
    if threshold is not None:
        threshold = check_float("threshold", threshold, "[0, 2]", fix="Leave it out to choose it from the distances.")
    options: ExtractOptions = {"layers": layers, "pool": pool, "batch_size": batch_size, "precision": precision}
    (rows, files), (others_rows, other_files), within = _both_sets(
        backbone, (images, others), (size, on_error), memory, options
    )
    if threshold is None:
        nearest, _ = nearest_rows(others_rows, rows, 1, leave_one_out=within)
        threshold = TYPICAL * _distances(nearest).median().item()
    found = list(_limited(similar_pairs(rows, others_rows, 1 - threshold - ROUNDING, once=within), threshold))
    pairs = torch.cat([each for each, _ in found]) if found else torch.empty(0, 2, dtype=torch.int64)
    similarities = torch.cat([each for _, each in found]) if found else torch.empty(0)
    order = similarities.argsort(descending=True, stable=True)
    return Duplicates(pairs[order], _distances(similarities[order]), files, other_files, within)


def _both_sets(
    backbone: Model,
    sets: tuple[Any, Any],
    file_options: tuple[Size | None, OnError],
    memory: float,
    options: ExtractOptions,
) -> tuple[tuple[Tensor, tuple[str, ...]], tuple[Tensor, tuple[str, ...]], bool]:
    """Extract unit features and files of both sets, and say whether they are one set."""
    within = sets[1] is None or is_same_data(*sets)
    images, others = read_files(sets, *file_options)
    first = unit_features(backbone, images, memory if within else memory / 2, options)
    if not within:
        second = unit_features(backbone, others, memory / 2, options)
        check_widths({"last": first[0]}, {"last": second[0]})
        return first, second, False
    if len(first[0]) < 2:
        raise DataError("at least two images", got="one", fix="Pass more images, or a second set to compare with.")
    return first, first, True


def unit_features(
    backbone: Model, images: Any, memory: float, options: ExtractOptions
) -> tuple[Tensor, tuple[str, ...]]:
    """Extract the features of one layer, of unit length, and the files of the images or their numbers as texts."""
    source = images if getattr(images, "ndim", 0) == 2 else as_source(images, labels=False)
    layers = image_features(backbone, source, memory=memory, **options).layers
    if len(layers) != 1:
        raise OptionError("one layer", got=", ".join(layers), fix="For example layers='last'.")
    (features,) = layers.values()
    for part in row_slices(*features.shape):
        nn.functional.normalize(features[part], out=features[part])
    return features, find_files(source) or tuple(map(str, range(len(features))))


def _limited(found: Iterator[tuple[Tensor, Tensor]], threshold: float) -> Iterator[tuple[Tensor, Tensor]]:
    """Pass on pairs, and refuse so many that they would fill the memory."""
    count = 0
    for pairs, similarities in found:
        count += len(pairs)
        if count > MOST_PAIRS:
            raise DataError(
                f"at most {MOST_PAIRS:,} pairs",
                got=f"more within threshold={threshold:g}",
                fix="Lower threshold. If it is low, many images are equal, such as black ones: remove them first.",
            )
        yield pairs, similarities


def _distances(similarities: Tensor) -> Tensor:
    return (1 - similarities).clamp(0, 2)
