"""Checks of arguments; each raises a PretextkitError."""

from pretextkit._validation._arrays import check_floats, check_rows
from pretextkit._validation._data import check_classes, check_images, check_labels, tensor_from_array
from pretextkit._validation._options import check_float, check_int, check_sequence

__all__ = [
    "check_classes",
    "check_float",
    "check_floats",
    "check_images",
    "check_int",
    "check_labels",
    "check_rows",
    "check_sequence",
    "tensor_from_array",
]
