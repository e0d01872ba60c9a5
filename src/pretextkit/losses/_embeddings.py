"""Checks and precision of the embeddings that losses compare."""

from __future__ import annotations

import torch
from torch import Tensor

from pretextkit._validation import check_floats, check_rows
from pretextkit.distributed import current_rank
from pretextkit.errors import ShapeError

__all__ = ["check_batch", "check_pair", "in_full_precision"]


def check_pair(z_a: Tensor, z_b: Tensor) -> None:
    """Check that two embeddings are floats of the same shape ``n d``.

    Raises:
        ShapeError: The shapes differ, or are not ``n d``.
        DataError: The embeddings are not of a floating-point dtype.

    Example:
        >>> check_pair(torch.eye(2), torch.eye(2))
    """
    if z_a.ndim != 2 or z_a.shape != z_b.shape:
        raise ShapeError(
            "two embeddings of the same shape n d",
            got=f"{tuple(z_a.shape)} and {tuple(z_b.shape)}",
            fix="Embed both views of the same images.",
        )
    check_rows(z_a, "embeddings")
    check_floats(z_b, "embeddings")


def check_batch(z: Tensor, reason: str) -> None:
    """Check that the batch of all processes has at least 2 images.

    Args:
        z: ``n d``, the rows of this process.
        reason: Why one image is too few.

    Raises:
        ShapeError: There is a single image.

    Example:
        >>> check_batch(torch.eye(2), "one image has no variance")
    """
    if len(z) * current_rank().world_size < 2:
        raise ShapeError(
            f"a batch of at least 2 images, because {reason}",
            got=len(z),
            fix="Increase the batch size, and drop a last batch of one image.",
        )


def in_full_precision(values: Tensor) -> Tensor:
    """Convert to float32; float64 stays.

    Example:
        >>> in_full_precision(torch.ones(1, dtype=torch.float16)).dtype
        torch.float32
    """
    return values if values.dtype == torch.float64 else values.float()
