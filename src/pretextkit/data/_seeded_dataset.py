"""Make random transforms depend only on the seed and the batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch.utils.data import Dataset

from pretextkit._seeding import hash_seed, seeded_everywhere

__all__ = ["SeededDataset"]


class SeededDataset(Dataset[Any]):
    """A dataset whose random draws depend on a seed and the batch alone.

    A worker process is otherwise seeded once, so that what it draws depends on the batches it read before: a run that
    goes on in the middle of an epoch would draw something else. Seeded, and put back after each batch, are the global
    generators of torch, Python and NumPy.

    Args:
        dataset: Has ``__getitem__``, and perhaps ``__getitems__``.
        seed: Another seed gives each batch other draws.

    Example:
        >>> import torch
        >>> class Noise(Dataset[torch.Tensor]):
        ...     def __getitem__(self, index):
        ...         return torch.rand(1)
        >>> first, again = (SeededDataset(Noise(), seed=0).__getitems__([3, 4]) for _ in range(2))
        >>> first == again, first[0] == first[1]
        (True, tensor([False]))
    """

    def __init__(self, dataset: Dataset[Any], seed: int) -> None:
        self.dataset, self.seed = dataset, seed

    def __getitems__(self, indices: Sequence[int]) -> Sequence[Any]:
        """Read one batch: what a DataLoader calls."""
        many = getattr(self.dataset, "__getitems__", None)
        with seeded_everywhere(hash_seed(self.seed, list(indices))):
            items: Sequence[Any] = many(indices) if many else [self.dataset[index] for index in indices]
            return items
