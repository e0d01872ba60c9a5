"""Names of the classes of a dataset, and numbers for labels that are texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import ConcatDataset

from pretextkit.data._items import class_names_of_features
from pretextkit.errors import DataError

__all__ = ["named_classes", "number_texts", "texts_of"]


def named_classes(dataset: Any) -> tuple[str, ...] | None:
    """Find the class names of a dataset, also below ``Subset``, ``DataLoader`` and ``ConcatDataset``.

    Names say nothing about labels that a ``target_transform`` has changed.

    Args:
        dataset: Has ``classes``, as torchvision's datasets do, ``features`` of Hugging Face ``datasets``, or a
            ``dataset`` that has one of them.

    Returns:
        The names in the order of the labels; None if there are none.

    Raises:
        DataError: The parts of a ``ConcatDataset`` number their classes differently.

    Example:
        >>> from types import SimpleNamespace
        >>> from torch.utils.data import Subset
        >>> named_classes(Subset(SimpleNamespace(classes=["cat", "dog"]), [0]))
        ('cat', 'dog')
    """
    if isinstance(dataset, ConcatDataset):
        return _shared_names([named_classes(part) for part in dataset.datasets if not _is_unlabeled(part)])
    if getattr(dataset, "target_transform", None) is not None:
        return None
    classes = getattr(dataset, "classes", None)
    if isinstance(classes, Sequence) and not isinstance(classes, str) and classes:
        # Classes of ImageNet and Imagenette have several names.
        joined = [", ".join(name) if isinstance(name, tuple) and _all_texts(name) else name for name in classes]
        if _all_texts(joined):
            return tuple(joined)
    if (names := class_names_of_features(getattr(dataset, "features", None))) is not None:
        return names
    inner = getattr(dataset, "dataset", getattr(dataset, "loader", None))
    return None if inner is None else named_classes(inner)


def _is_unlabeled(dataset: Any) -> bool:
    """Whether a folder has no labels, so that the names of other parts are those of all."""
    return isinstance(labels := getattr(dataset, "labels", None), tuple) and all(label == -1 for label in labels)


def _shared_names(parts: Sequence[tuple[str, ...] | None]) -> tuple[str, ...] | None:
    named = [part for part in parts if part is not None]
    if not named or len(named) < len(parts):
        return None
    longest = max(named, key=len)
    for part in named:
        if part != longest[: len(part)]:
            raise DataError(
                "parts of a ConcatDataset that number their classes alike",
                got=f"classes {', '.join(longest)} beside {', '.join(part)}",
                fix="Put all images into one folder with one sub-folder for each class, or renumber the labels of the "
                "parts with target_transform.",
            )
    return longest


def texts_of(labels: Any) -> list[str] | None:
    """Give labels as a list of texts; None if they are not texts.

    Example:
        >>> texts_of(["cat", "dog"]), texts_of([0, 1])
        (['cat', 'dog'], None)
    """
    kind = getattr(getattr(labels, "dtype", None), "kind", None)
    if isinstance(labels, Tensor) or (kind is not None and kind not in "USTO"):
        return None
    if kind == "S":
        labels = labels.astype(str)
    if kind is None and not isinstance(labels, list | tuple):
        if not hasattr(labels, "tolist"):
            return None
        return texts_of(labels.tolist())  # a column of a data frame
    values = labels.reshape(-1).tolist() if kind is not None and labels.ndim == 2 and labels.shape[1] == 1 else labels
    values = values if isinstance(values, list | tuple) else values.tolist()
    return list(values) if values and _all_texts(values) else None


def number_texts(texts: Sequence[str], names: Sequence[str] | None = None) -> tuple[Tensor, tuple[str, ...]]:
    """Number labels that are texts by their class names.

    Args:
        texts: ``n`` class names; an empty text means unlabeled.
        names: Names of all classes, in the order of their numbers; by default those in ``texts``, sorted.

    Returns:
        Labels ``n``, int64, -1 where the text is empty; and the class names.

    Raises:
        DataError: A text is not among ``names``.

    Example:
        >>> number_texts(["owl", "cat", "", "owl"])
        (tensor([ 1,  0, -1,  1]), ('cat', 'owl'))
    """
    names = tuple(names) if names else tuple(sorted(set(texts) - {""}))
    numbers = {name: number for number, name in enumerate(names)} | {"": -1}
    for text in texts:
        if text not in numbers:
            raise DataError(
                f"labels among the class names {', '.join(names[:5])}{', …' if len(names) > 5 else ''}",
                got=repr(text),
                fix="Add the class to class_names, or correct the label.",
            )
    return torch.tensor([numbers[text] for text in texts], dtype=torch.int64), names


def _all_texts(values: Sequence[Any]) -> bool:
    return all(isinstance(value, str) for value in values)
