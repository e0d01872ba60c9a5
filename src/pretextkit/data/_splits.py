"""Parts of a labeled set in which every class has its share."""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator, Tensor

from pretextkit._validation import check_float, check_int, check_labels
from pretextkit.errors import DataError

__all__ = ["keep_labels", "stratified_split", "stratified_subset"]


def stratified_subset(labels: Any, count: int, *, seed: int = 0) -> Tensor:
    """Choose ``count`` labeled images, each class in proportion and at least one of it.

    Args:
        labels: ``n`` integers; images with -1 are never chosen.
        count: How many images, exactly.
        seed: Another seed chooses other images of each class.

    Returns:
        Indices ``count``, ascending.

    Raises:
        DataError: No image is labeled, or ``count`` is below the number of classes or above that of labeled images.

    Example:
        >>> labels = torch.tensor([0, 0, 0, 0, 1, 1, -1, 2])
        >>> labels[stratified_subset(labels, 4)]
        tensor([0, 0, 1, 2])
    """
    labels = check_labels(labels)
    members = _members(labels)
    labeled = sum(map(len, members))
    count = check_int("count", count, at_least=None, fix="Pass the number of images to choose.")
    if not len(members) <= count <= labeled:
        raise DataError(
            f"a count from {len(members)} (one for each class) to {labeled} (all that are labeled)",
            got=count,
            fix="Choose another count, or label more images.",
        )
    sizes = torch.tensor([len(rows) for rows in members])
    seed = check_int("seed", seed, at_least=None, of=stratified_subset)
    return _draw(members, _shares(sizes, count), seed)


def stratified_split(labels: Any, fraction: float, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Split the labeled images into two parts with equal proportions of the classes.

    The parts are disjoint and together contain every labeled image; unlabeled images (-1) are in neither. The first
    part contains every class: a class of one image is in the first part only.

    Args:
        labels: ``n`` integers, -1 where unlabeled.
        fraction: Fraction of each class in the first part, between 0 and 1.
        seed: Seed of the random choice.

    Returns:
        Indices of the first and of the second part, ascending.

    Raises:
        OptionError: ``fraction`` is not between 0 and 1.
        DataError: No image is labeled.

    Example:
        >>> train, test = stratified_split(torch.tensor([0, 0, 0, 0, 1, 1, -1]), 0.5)
        >>> len(train), len(test)
        (3, 3)
    """
    fraction = check_float("fraction", fraction, "(0, 1)", fix="0.8 puts four fifths in the first part.")
    seed = check_int("seed", seed, at_least=None, of=stratified_split)
    labels = check_labels(labels)
    members = _members(labels)
    counts = torch.tensor([max(1, round(len(rows) * fraction)) for rows in members])
    first = _draw(members, counts, seed)
    rest = labels >= 0
    rest[first] = False
    return first, rest.nonzero().flatten()


def keep_labels(labels: Any, count: int, *, seed: int = 0) -> Tensor:
    """Keep ``count`` stratified labels and set all others to -1.

    Args:
        labels: ``n`` integers, -1 for unlabeled images; not modified.
        count: Number of labels to keep.
        seed: Seed of the random choice.

    Returns:
        Labels ``n``, of which ``count`` are not -1.

    Raises:
        DataError: As for :func:`stratified_subset`.

    Example:
        >>> keep_labels(torch.tensor([0, 0, 0, 1, 1, 1]), 2).ge(0).sum()
        tensor(2)
    """
    labels = check_labels(labels)
    kept = stratified_subset(labels, count, seed=seed)
    return torch.full_like(labels, -1).index_copy(0, kept, labels[kept])


def _members(labels: Tensor) -> list[Tensor]:
    """Find the indices of each class, in the order of the labels."""
    labels_there = torch.unique(labels[labels >= 0])
    if len(labels_there) == 0:
        raise DataError("labeled images", got="labels that are all -1", fix="Label at least one image of each class.")
    return [(labels == label).nonzero().flatten() for label in labels_there]


def _shares(sizes: Tensor, count: int) -> Tensor:
    """Distribute ``count`` over the classes by largest remainder, with 1 to ``sizes`` images per class."""
    quota = sizes.double() * count / sizes.sum()
    shares = quota.floor().long().clamp(min=1)
    while int(shares.sum()) != count:
        # Rare classes raised to 1 can overdraw; then those furthest above their quota give back.
        short = int(shares.sum()) < count
        open_ = shares < sizes if short else shares > 1
        want = torch.where(open_, quota - shares if short else shares - quota, -torch.inf)
        shares[want.argmax()] += 1 if short else -1
    return shares


def _draw(members: list[Tensor], counts: Tensor, seed: int) -> Tensor:
    generator = Generator().manual_seed(seed)
    chosen = [
        rows[torch.randperm(len(rows), generator=generator)[:count]]
        for rows, count in zip(members, counts.tolist(), strict=True)
    ]
    return torch.cat(chosen).sort().values
