"""Random numbers that depend on a seed, a purpose and a step, and on nothing that ran before."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Generator

__all__ = ["derived_generator", "derived_seed", "seed_layers", "seeded"]


def derived_seed(seed: int, purpose: str, step: int = 0) -> int:
    """Mix a seed, what it is for and a counter into a 63-bit seed.

    Since step 1,000 can be seeded without running the 999 before it, a resumed run draws what the uninterrupted run
    would have drawn, and there is no generator state to save.

    Example:
        >>> derived_seed(0, "views", 7) == derived_seed(0, "views", 7) != derived_seed(0, "views", 8)
        True
    """
    digest = hashlib.blake2b(f"{seed}/{purpose}/{step}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def derived_generator(seed: int, purpose: str, step: int = 0) -> Generator:
    """Build a CPU generator from :func:`derived_seed`.

    Example:
        >>> one, other = (torch.rand(2, generator=derived_generator(0, "views", 7)) for _ in range(2))
        >>> torch.equal(one, other)
        True
    """
    return Generator().manual_seed(derived_seed(seed, purpose, step))


def seed_layers(device: torch.device, seed: int, step: int, part: int = 0) -> None:
    """Seed the global generators of the CPU and of ``device``, from which dropout and the like draw.

    Each ``part`` of a step's batch draws something else.

    Those of other devices are left alone, unlike by ``torch.manual_seed``. Fork the generators around this.

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
    """Seed the CPU's global generator, from which new layers draw their weights, and put it back afterwards.

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
