"""Checks of arrays and tensors of numbers."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pretextkit._validation._image_advice import array_fix
from pretextkit._validation._label_advice import floats_fix, integers_fix, rows_fix
from pretextkit.errors import DataError, ShapeError

if TYPE_CHECKING:
    import numpy

__all__ = ["check_floats", "check_integer_tensor", "check_rows", "check_widths", "tensor_from_array"]


def check_floats(values: Tensor, what: str) -> None:
    """Check that a tensor has a real floating-point dtype.

    Args:
        values: Of any shape.
        what: Plural noun for the values in the message.

    Raises:
        DataError: The dtype is not a real floating-point one.

    Example:
        >>> check_floats(torch.ones(2), "features")
    """
    if not values.is_floating_point():
        raise DataError(f"{what} of a floating-point dtype", got=str(values.dtype), fix=floats_fix(values, what))


def check_integer_tensor(values: Tensor, what: str) -> None:
    """Check that a tensor holds integers; bools are refused, because indexing takes them for a mask.

    Args:
        values: Of any shape.
        what: Plural noun for the values in the message.

    Raises:
        DataError: The dtype is no integer one.

    Example:
        >>> check_integer_tensor(torch.tensor([1, 2]), "turns")
    """
    if values.is_floating_point() or values.is_complex() or values.dtype == torch.bool:
        raise DataError(f"{what} to be integers", got=str(values.dtype), fix=integers_fix(values, what))


def check_rows(features: Tensor, what: str) -> None:
    """Check that features are floats ``n d``, with at least one row and one column.

    Args:
        features: ``n d``.
        what: Plural noun for the rows in the message.

    Raises:
        ShapeError: The features have another shape.
        DataError: The features have another dtype.

    Example:
        >>> check_rows(torch.ones(2, 3), "features")
    """
    if features.ndim != 2 or not features.numel():
        raise ShapeError(f"{what} n d", got=f"shape {tuple(features.shape)}", fix=rows_fix(tuple(features.shape), what))
    check_floats(features, what)


def check_widths(train: Mapping[str, Tensor], test: Mapping[str, Tensor]) -> None:
    """Check that every layer has features of one width on train and test.

    Args:
        train: Features ``n d`` of each layer.
        test: Features ``m d`` of the same layers.

    Raises:
        ShapeError: The widths of a layer differ.

    Example:
        >>> check_widths({"last": torch.ones(4, 8)}, {"last": torch.ones(2, 8)})
    """
    for name, features in train.items():
        if features.shape[1] != test[name].shape[1]:
            raise ShapeError(
                f"features of equal width from layer {name!r} on train and test",
                got=f"{features.shape[1]} and {test[name].shape[1]}",
                fix="Give the model images of one size, or pass features of one width.",
            )


def tensor_from_array(array: numpy.ndarray[Any, Any]) -> Tensor:
    """Share the memory of an array with a tensor; copy only arrays that torch cannot share.

    Args:
        array: Also read-only, for example memory-mapped.

    Raises:
        DataError: The array does not hold numbers.
    """
    import numpy

    if not array.dtype.isnative or any(stride < 0 for stride in array.strides):
        array = numpy.ascontiguousarray(array, array.dtype.newbyteorder("="))
    with warnings.catch_warnings():
        # A read-only array is safe, because pretextkit never writes to its inputs.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writ")
        try:
            return torch.from_numpy(array)
        except TypeError as error:
            raise DataError("an array of numbers", got=f"dtype {array.dtype}", fix=array_fix(array)) from error
