"""Per-image draws: small tensors of random parameters, made where the generator lives."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from pretextkit.errors import OptionError, ShapeError

__all__ = ["chance", "choice", "require_images", "uniform"]


def require_images(images: Tensor) -> None:
    """Refuse what is not ``b c h w``."""
    if images.ndim != 4:
        raise ShapeError("images b c h w", got=f"shape {tuple(images.shape)}", fix="Add a batch axis: images[None].")


def uniform(images: Tensor, low: float, high: float, generator: Generator) -> Tensor:
    """Draw one number in [low, high) for each image: ``b``, on the images' device."""
    require_images(images)
    draws = torch.rand(len(images), generator=generator, device=generator.device)
    return (low + (high - low) * draws).to(images.device)


def chance(images: Tensor, p: float, generator: Generator) -> Tensor:
    """Draw for each image whether something of probability ``p`` happens: ``b``, bool, on the images' device."""
    if not 0 <= p <= 1:
        raise OptionError("a probability in [0, 1]", got=p, fix="0 is never, 1 is always.")
    return uniform(images, 0, 1, generator) < p


def choice(images: Tensor, count: int, generator: Generator) -> Tensor:
    """Draw one of 0…count-1 for each image: ``b``, int64, on the images' device."""
    require_images(images)
    return torch.randint(count, (len(images),), generator=generator, device=generator.device).to(images.device)
