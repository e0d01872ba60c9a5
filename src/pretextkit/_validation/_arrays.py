"""What embeddings must be before anything is computed from them."""

from __future__ import annotations

from torch import Tensor

from pretextkit.errors import DataError, ShapeError

__all__ = ["check_floats", "check_rows"]


def check_floats(values: Tensor, what: str) -> None:
    """Refuse what is not real floating-point numbers.

    Raises:
        DataError: It has another dtype.

    Example:
        >>> import torch
        >>> check_floats(torch.ones(2), "features")
    """
    if not values.is_floating_point():
        raise DataError(f"{what} of a floating-point dtype", got=str(values.dtype), fix="Convert with .float().")


def check_rows(features: Tensor, what: str) -> None:
    """Refuse what is not ``n d`` of floats, with at least one row and column.

    Raises:
        ShapeError: It has another shape.
        DataError: It has another dtype.

    Example:
        >>> import torch
        >>> check_rows(torch.ones(2, 3), "features")
    """
    if features.ndim != 2 or not features.numel():
        raise ShapeError(f"{what} n d", got=f"shape {tuple(features.shape)}", fix="Average maps first: .mean((2, 3)).")
    check_floats(features, what)
