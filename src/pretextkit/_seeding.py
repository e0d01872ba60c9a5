"""Random numbers that depend on a seed, a purpose and a step only."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Generator

__all__ = ["derived_generator", "derived_seed", "hash_seed", "seed_layers", "seeded", "seeded_everywhere"]


def hash_seed(*parts: object) -> int:
    """Hash values, as they print, to a 63-bit seed.

    Example:
        >>> hash_seed(0, [3, 4]) == hash_seed(0, [3, 4]) != hash_seed(1, [3, 4])
        True
    """
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def derived_seed(seed: int, purpose: str, step: int = 0) -> int:
    """Derive a 63-bit seed from a seed, a purpose and a counter.

    Step 1,000 can be seeded without running the 999 steps before it. A resumed run therefore draws the numbers of the
    uninterrupted run, and a checkpoint needs no generator state.

    Example:
        >>> derived_seed(0, "views", 7) == derived_seed(0, "views", 7) != derived_seed(0, "views", 8)
        True
    """
    return hash_seed(seed, purpose, step)


def derived_generator(seed: int, purpose: str, step: int = 0) -> Generator:
    """Build a CPU generator from :func:`derived_seed`.

    Example:
        >>> one, other = (torch.rand(2, generator=derived_generator(0, "views", 7)) for _ in range(2))
        >>> torch.equal(one, other)
        True
    """
    return Generator().manual_seed(derived_seed(seed, purpose, step))


def seed_layers(device: torch.device, seed: int, step: int, part: int = 0) -> None:
    """Seed the global generators of the CPU and of ``device`` for layers such as dropout.

    Each ``part`` of a step's batch has its own seed. Generators of other devices keep their state, unlike with
    ``torch.manual_seed``. The caller forks the generators.

    Example:
        >>> with torch.random.fork_rng(devices=[]):
        ...     seed_layers(torch.device("cpu"), seed=0, step=7)
    """
    number = derived_seed(seed, f"layers of part {part}" if part else "layers", step)
    torch.default_generator.manual_seed(number)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(number)
    elif device.type == "mps":
        torch.mps.manual_seed(number)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the CPU's global generator, from which new layers draw their weights, and restore it afterwards.

    Example:
        >>> with seeded(0):
        ...     one = torch.nn.Linear(2, 2)
        >>> with seeded(0):
        ...     torch.equal(torch.nn.Linear(2, 2).weight, one.weight)
        True
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


@contextmanager
def seeded_everywhere(seed: int) -> Iterator[None]:
    """Seed the global CPU generators of torch, Python and NumPy, and restore them afterwards.

    Example:
        >>> with seeded_everywhere(0):
        ...     one = random.random()
        >>> with seeded_everywhere(0):
        ...     random.random() == one
        True
    """
    import numpy

    python, legacy = random.getstate(), numpy.random.get_state()  # noqa: NPY002 - datasets draw from it
    with seeded(seed):
        random.seed(seed)
        numpy.random.seed(seed % 2**32)  # noqa: NPY002
        try:
            yield
        finally:
            random.setstate(python)
            numpy.random.set_state(legacy)  # noqa: NPY002
