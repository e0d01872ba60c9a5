"""Random parameters for each image, drawn on the device of the generator."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from pretextkit._validation import check_float, check_view_images

__all__ = [
    "bernoulli",
    "randint",
    "select",
    "uniform",
]


def uniform(images: Tensor, low: float, high: float, generator: Generator) -> Tensor:
    """Draw one number in [low, high) for each image: ``b``, on the device of the images."""
    check_view_images(images)
    draws = torch.rand(len(images), generator=generator, device=generator.device)
    return (low + (high - low) * draws).to(images.device)


def bernoulli(images: Tensor, p: float, generator: Generator) -> Tensor:
    """Draw True with probability ``p`` for each image: ``b``, bool, on the device of the images."""
    return uniform(images, 0, 1, generator) < check_float(
        "the probability", p, "[0, 1]", fix="0 is never, 1 is always."
    )


def randint(images: Tensor, count: int, generator: Generator) -> Tensor:
    """Draw one integer in 0…count-1 for each image: ``b``, int64, on the device of the images."""
    check_view_images(images)
    return torch.randint(count, (len(images),), generator=generator, device=generator.device).to(images.device)


def select(chosen: Tensor, changed: Tensor, images: Tensor) -> Tensor:
    """Replace the chosen images (``b``, bool) by ``changed``, and keep the others.

    Interpolation by 0 or 1 is exact, and faster than ``torch.where``.

    Example:
        >>> images = torch.tensor([0.2, 0.7]).view(2, 1, 1, 1)
        >>> select(torch.tensor([False, True]), 1 - images, images).flatten()
        tensor([0.2000, 0.3000])
    """
    chosen = chosen[:, None, None, None]
    if not images.is_floating_point():
        return torch.where(chosen, changed, images)
    return torch.lerp(images, changed, chosen.to(images.dtype))
