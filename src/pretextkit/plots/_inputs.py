"""Checks of the tensors that plots take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from pretextkit._validation import check_image_tensor
from pretextkit.errors import DataError

__all__ = ["check_plotted_features", "check_plotted_images"]

SEE = "a-data-set-where-a-tensor-is-needed"
"""Section of the page on troubleshooting."""


def check_plotted_images(images: Any) -> None:
    """Refuse images that are neither a tensor nor a list of tensors.

    Raises:
        DataError: They are something else.

    Example:
        >>> check_plotted_images(torch.zeros(2, 3, 8, 8))
    """
    if not (isinstance(images, list) and all(isinstance(image, Tensor) for image in images)):
        check_image_tensor(images)


def check_plotted_features(features: Any) -> None:
    """Refuse features that are no tensor.

    Raises:
        DataError: They are something else.

    Example:
        >>> check_plotted_features(torch.zeros(2, 3))
    """
    if isinstance(features, Tensor):
        return
    fix = "Compute them: pretextkit.functional.extract_features(backbone, images).layers['last']."
    if type(features).__module__ == "numpy":
        fix = "Convert with torch.as_tensor(features)."
    elif isinstance(getattr(features, "layers", None), Mapping):
        fix = f"Choose a layer: features.layers[{next(iter(features.layers))!r}]."
    elif isinstance(features, Mapping) and features:
        fix = f"Choose a layer: features[{next(iter(features))!r}]."
    raise DataError("a tensor of features n d", got=type(features).__name__, fix=fix, see=SEE)
