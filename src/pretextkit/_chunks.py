"""Row chunks of a matrix that is too large to compute at once."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

__all__ = ["row_chunks"]

_MAX_ENTRIES = 1 << 22
"""Matrix entries per chunk: 16 MiB in fp32."""


def row_chunks(rows: int, columns: int, device: torch.device) -> Iterator[Tensor]:
    """Yield the row numbers of a ``rows`` x ``columns`` matrix in chunks.

    Args:
        rows: Number of rows.
        columns: Number of columns.
        device: Device of the row numbers.

    Example:
        >>> [len(chunk) for chunk in row_chunks(10, 1 << 20, torch.device("cpu"))]
        [4, 4, 2]
    """
    yield from torch.split(torch.arange(rows, device=device), max(1, _MAX_ENTRIES // columns))
