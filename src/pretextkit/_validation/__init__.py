"""Checks of arguments; each raises a PretextkitError."""

from pretextkit._validation._arrays import (
    check_floats,
    check_integer_tensor,
    check_rows,
    check_widths,
    tensor_from_array,
)
from pretextkit._validation._images import (
    check_channels,
    check_float_images,
    check_image_batch,
    check_image_tensor,
    check_images,
    check_masks,
    check_view_images,
)
from pretextkit._validation._labels import check_classes, check_classes_seen, check_labels
from pretextkit._validation._options import check_float, check_int, check_sequence
from pretextkit._validation._outputs import check_callable, check_features, check_finite, check_tensor, described

__all__ = [
    "check_callable",
    "check_channels",
    "check_classes",
    "check_classes_seen",
    "check_features",
    "check_finite",
    "check_float",
    "check_float_images",
    "check_floats",
    "check_image_batch",
    "check_image_tensor",
    "check_images",
    "check_int",
    "check_integer_tensor",
    "check_labels",
    "check_masks",
    "check_rows",
    "check_sequence",
    "check_tensor",
    "check_view_images",
    "check_widths",
    "described",
    "tensor_from_array",
]
