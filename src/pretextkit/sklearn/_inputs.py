"""Images, features and labels as scikit-learn passes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy
import torch
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_array, check_consistent_length, column_or_1d, validate_data
from torch import Tensor

from pretextkit.data import as_source
from pretextkit.data._sources import ImageSource
from pretextkit.data._types import Size
from pretextkit.errors import DataError

__all__ = ["check_kind", "is_features", "read_features", "read_images", "read_labels"]

SEQUENCES = (list, tuple)


def is_features(X: Any) -> bool:
    """Return whether ``X`` holds rows of numbers ``n d``, the common input of scikit-learn, and no images.

    Example:
        >>> is_features(numpy.zeros((4, 2))), is_features(numpy.zeros((4, 8, 8))), is_features(["a.jpg", "b.jpg"])
        (True, False, False)
    """
    if isinstance(X, str | Path | ImageSource):
        return False
    if hasattr(X, "ndim") and X.ndim != 1:
        return bool(X.ndim < 3)
    if hasattr(X, "toarray") or hasattr(X, "columns"):  # sparse matrices, data frames
        return True
    try:
        first = X[0] if isinstance(X, SEQUENCES) else numpy.asarray(X).flat[0]
    except (IndexError, TypeError):  # nothing, or no sequence
        return isinstance(X, (*SEQUENCES, numpy.ndarray))
    return isinstance(first, int | float | complex | numpy.number) or (
        isinstance(first, SEQUENCES) and not hasattr(first, "shape")
    )


def read_features(estimator: Any, X: Any, y: Any = None, *, fitting: bool = False) -> tuple[Tensor, Any]:
    """Check rows of numbers by the rules of scikit-learn, and give them as a tensor ``n d``, float32."""
    if isinstance(X, Tensor):
        X = X.detach().cpu().numpy()
    options: dict[str, Any] = {"reset": fitting, "dtype": numpy.float32, "order": "C", "copy": True}
    if y is None:
        return torch.from_numpy(validate_data(estimator, X, **options)), None
    X, y = validate_data(estimator, X, y, **options)
    return torch.from_numpy(X), y


def read_images(X: Any, size: Size | None) -> ImageSource:
    """Give images as a source: an array, a tensor, a list of images or paths, or a folder.

    Raises:
        DataError: ``X`` is something else.

    Example:
        >>> len(read_images(numpy.zeros((4, 8, 8), numpy.uint8), None))
        4
    """
    if hasattr(X, "to_list"):  # a series of pandas or polars
        X = X.to_list()
    elif isinstance(X, numpy.ndarray) and X.ndim == 1:  # paths or images, as objects
        X = X.tolist()
    paths = isinstance(X, str | Path) or (isinstance(X, SEQUENCES) and all(isinstance(x, str | Path) for x in X))
    return as_source(list(X) if isinstance(X, tuple) else X, size=size if paths else None)


def read_labels(X: Any, y: Any) -> tuple[numpy.ndarray[Any, Any], numpy.ndarray[Any, Any]]:
    """Check labels by the rules of scikit-learn, and number them; None is an image without a label.

    Returns:
        Classes ``k``, sorted; and the number ``n`` of the class of each image, int64, -1 where unlabeled.

    Raises:
        DataError: There are no labels, or one class only.

    Example:
        >>> read_labels([0, 0, 0], ["dog", None, "cat"])
        (array(['cat', 'dog'], dtype='<U3'), array([ 1, -1,  0]))
    """
    if y is None:
        text = "A classifier requires y to be passed, but the target y is None."  # words that scikit-learn looks for
        raise DataError(text, fix="Pass one word or number for each image.")
    check_consistent_length(X, y)
    y = column_or_1d(y, warn=True)
    check_array(y, ensure_2d=False, dtype=None, input_name="y")  # no NaN
    numbers = numpy.full(len(y), -1)
    labeled = numpy.array([label is not None for label in y])
    if not labeled.all():
        y = numpy.array(y[labeled].tolist())  # of texts or numbers, and not of objects
    classes: numpy.ndarray[Any, Any] = numpy.array([])
    if len(y):
        check_classification_targets(y)
        classes, numbers[labeled] = numpy.unique(y, return_inverse=True)
    if len(classes) < 2:
        got = f"one class, {classes[0]}" if len(classes) else "None for every image"
        raise DataError("at least two classes in y", got=got, fix="Add labeled images of another class.")
    return classes, numbers


def check_kind(estimator: Any, X: Any) -> bool:
    """Return whether ``X`` holds features, and refuse the kind that ``fit`` has not seen.

    Raises:
        DataError: ``X`` holds images after a fit on features, or the reverse.
    """
    features, fitted = is_features(X), hasattr(estimator, "n_features_in_")
    if features != fitted:
        kinds = ("images", "features n d")
        raise DataError(f"{kinds[fitted]}, as in fit", got=kinds[features], fix="Pass the same kind of data.")
    return features
