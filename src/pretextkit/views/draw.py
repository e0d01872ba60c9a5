"""Per-image draws: small tensors of random parameters, made where the generator lives."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

__all__ = ["chance", "choice", "uniform"]


def uniform(images: Tensor, low: float, high: float, generator: Generator) -> Tensor:
    """Draw one number in [low, high) for each image: ``b``, on the images' device."""
    draws = torch.rand(len(images), generator=generator, device=generator.device)
    return (low + (high - low) * draws).to(images.device)


def chance(images: Tensor, p: float, generator: Generator) -> Tensor:
    """Draw for each image whether something of probability ``p`` happens: ``b``, bool, on the images' device."""
    return uniform(images, 0, 1, generator) < p


def choice(images: Tensor, count: int, generator: Generator) -> Tensor:
    """Draw one of 0…count-1 for each image: ``b``, int64, on the images' device."""
    return torch.randint(count, (len(images),), generator=generator, device=generator.device).to(images.device)
