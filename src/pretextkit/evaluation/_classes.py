"""Classes of training images: their labels, their names, and their weights in a loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from pretextkit._validation import check_classes, check_classes_seen, check_float, check_sequence
from pretextkit.data import LabeledLike, as_source
from pretextkit.errors import DataError, OptionError

__all__ = [
    "ClassWeights",
    "Classes",
    "find_classes",
    "match_classes",
    "match_masks",
    "resolve_class_weights",
    "with_class_names",
]

ClassWeights = Literal["balanced"] | Sequence[float] | None
"""``"balanced"`` for equal weight of every class, numbers for each class, or None for equal weight of every image."""

LISTED = 20
"""Names that an error lists."""


@dataclass(frozen=True)
class Classes:
    """Classes of the training images."""

    count: int
    """One more than the highest label."""
    present: Tensor
    """Labels with training images, ascending."""
    names: tuple[str, ...] | None
    """Names by label; None without names."""

    @property
    def shown_names(self) -> tuple[str, ...]:
        """Names by label, or the numbers without names."""
        return self.names or tuple(map(str, range(self.count)))

    @property
    def complete(self) -> bool:
        """Whether every label below ``count`` has training images."""
        return len(self.present) == self.count


def with_class_names(data: LabeledLike) -> tuple[Any, tuple[str, ...] | None]:
    """Open labeled images, and return them with the names of their classes; features ``n d`` pass unchanged."""
    images: Any = data[0] if isinstance(data, tuple) and len(data) == 2 else data
    if getattr(images, "ndim", None) == 2:
        return data, getattr(data, "class_names", None)
    source = as_source(data)
    return source, source.class_names


def find_classes(labels: Tensor, names: tuple[str, ...] | None) -> Classes:
    """Find the classes of training labels.

    With names, a label may have no image: a class whose files are all missing keeps its number. Names that are fewer
    than the labels describe something else and are ignored.

    Raises:
        DataError: There is only one class, or, without names, a label below the highest one does not occur.

    Example:
        >>> find_classes(torch.tensor([0, 2, 2]), ("cat", "dog", "owl")).present
        tensor([0, 2])
    """
    names = _usable(names, labels)
    present = torch.unique(labels)
    if names is None or len(present) < 2:
        check_classes(labels)
    return Classes(int(present[-1]) + 1, present, names)


def match_classes(labels: Tensor, names: tuple[str, ...] | None, classes: Classes, what: str = "test") -> Tensor:
    """Convert labels to the numbers that the same class names have in train.

    Labels stay as they are if either side has no names.

    Args:
        labels: ``n``, int64, from 0 up.
        names: Names of the classes of ``labels``.
        classes: Classes of train.
        what: Name of the data in errors, such as ``test``.

    Returns:
        ``n``, int64, in the numbers of train.

    Raises:
        DataError: Train has no class of that name, or no image of that class.

    Example:
        >>> classes = find_classes(torch.tensor([0, 1, 2]), ("apple", "leaf", "sky"))
        >>> match_classes(torch.tensor([0, 1, 1]), ("apple", "sky"), classes)
        tensor([0, 2, 2])
    """
    names = _usable(names, labels)
    if names is not None and classes.names is not None and names != classes.names:
        labels = _renumber(labels, names, classes.names, what)
    if classes.names is None:
        check_classes_seen(labels, classes.count, what)
        return labels
    missing = sorted(set(torch.unique(labels).tolist()) - set(classes.present.tolist()))
    if missing:
        shown = [classes.names[label] if label < len(classes.names) else f"label {label}" for label in missing]
        raise DataError(
            f"{what} images of classes that have images in train",
            got=f"{_listed(shown)}, without an image in train",
            fix="Give train at least one image of every class.",
        )
    return labels


def match_masks(train: LabeledLike, part: LabeledLike, ignore_index: int, what: str) -> LabeledLike:
    """Convert the masks of ``part`` to the numbers that the same class names have in train.

    Masks stay as they are if either side has no names, as pairs of tensors have none.

    Raises:
        DataError: Train has no class of that name.
    """
    names, reference = (getattr(data, "class_names", None) for data in (part, train))
    if not (isinstance(part, tuple) and names and reference) or names == reference:
        return part
    images, masks = part
    masks = torch.as_tensor(masks).long()
    inside = (masks != ignore_index) & (masks >= 0) & (masks < len(names))
    renumbered = masks.clone()
    renumbered[inside] = _renumber(masks[inside], names, reference, what)
    return images, renumbered


def resolve_class_weights(class_weights: ClassWeights, labels: Tensor, classes: Classes) -> Tensor | None:
    """Return the weight of each class, scaled to a mean of 1 over the training images; None for equal weights.

    Args:
        class_weights: ``"balanced"``, one positive number for each class, or None.
        labels: Training labels ``n``.
        classes: Classes of the training labels.

    Returns:
        ``k`` weights; those of absent classes do not matter.

    Raises:
        OptionError: ``class_weights`` is something else.

    Example:
        >>> labels = torch.tensor([0, 0, 0, 1])
        >>> resolve_class_weights("balanced", labels, find_classes(labels, None))
        tensor([0.6667, 2.0000])
    """
    if class_weights is None:
        return None
    counts = torch.bincount(labels, minlength=classes.count).double()
    if isinstance(class_weights, str):
        if class_weights != "balanced":
            raise OptionError(
                "class_weights to be 'balanced', one number for each class, or None",
                got=repr(class_weights),
                fix="'balanced' gives every class the same weight.",
            )
        weights = 1 / counts.clamp(min=1)
    else:
        fix = f"For example [{', '.join(['1.0'] * min(classes.count, 3))}{', ...' if classes.count > 3 else ''}]."
        given = check_sequence("class_weights", class_weights, at_least=classes.count, at_most=classes.count, fix=fix)
        weights = torch.tensor([check_float("class_weights", each, "(0, inf)", fix=fix) for each in given]).double()
    return (weights * counts.sum() / (weights * counts).sum()).float()


def _usable(names: tuple[str, ...] | None, labels: Tensor) -> tuple[str, ...] | None:
    return names if names is not None and len(labels) and int(labels.max()) < len(names) else None


def _renumber(labels: Tensor, names: tuple[str, ...], reference: tuple[str, ...], what: str) -> Tensor:
    used = [names[label] for label in torch.unique(labels).tolist()]
    unknown = [name for name in used if name not in reference]
    twice = [name for name in used if names.count(name) > 1 or reference.count(name) > 1]
    if unknown or twice:
        raise DataError(
            f"{what} classes with the names of train ({_listed(reference)})",
            got=_listed(unknown) if unknown else f"several classes named {twice[0]}",
            fix="Rename the classes, or pass pairs (images, labels) to match the classes by their labels.",
        )
    table = torch.tensor([reference.index(name) if name in reference else -1 for name in names])
    return table[labels.cpu()].to(labels.device)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:LISTED]) + (", ..." if len(names) > LISTED else "")
