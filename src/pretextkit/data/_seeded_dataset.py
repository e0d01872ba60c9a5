"""Make random transforms depend only on the seed and the batch."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils.data import Dataset

__all__ = ["SeededDataset"]


class SeededDataset(Dataset[Any]):
    """Dataset whose random draws depend only on a seed and the batch.

    A DataLoader seeds each worker once, therefore its draws depend on the batches that it read before, and a resumed
    run would draw other numbers. This dataset seeds the global generators of torch, Python and NumPy before each batch
    and restores them afterwards.

    Args:
        dataset: Map-style dataset: has ``__getitem__``, and optionally ``__getitems__``.
        seed: Seed of the draws, together with the indices of the batch.

    Example:
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
        """Read one batch; a DataLoader calls this method."""
        many = getattr(self.dataset, "__getitems__", None)
        digest = hashlib.blake2b(f"{self.seed}/{list(indices)}".encode(), digest_size=8).digest()
        with _seeded(int.from_bytes(digest, "big") >> 1):
            items: Sequence[Any] = many(indices) if many else [self.dataset[index] for index in indices]
            return items


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    import numpy

    python, legacy = random.getstate(), numpy.random.get_state()  # noqa: NPY002 - datasets draw from it
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        random.seed(seed)
        numpy.random.seed(seed % 2**32)  # noqa: NPY002
        try:
            yield
        finally:
            random.setstate(python)
            numpy.random.set_state(legacy)  # noqa: NPY002
