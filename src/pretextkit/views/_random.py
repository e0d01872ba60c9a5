"""Per-image draws: small tensors of random parameters, made where the generator lives."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from pretextkit._validation import check_float
from pretextkit.errors import DataError, ShapeError

__all__ = [
    "bernoulli",
    "check_float_images",
    "check_integer_tensor",
    "check_view_images",
    "randint",
    "select",
    "uniform",
]

FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def check_view_images(images: Tensor) -> None:
    """Refuse what is not ``b c h w`` with at least one pixel each (there may be no image), of bytes or floats."""
    if images.ndim != 4:
        raise ShapeError("images b c h w", got=f"shape {tuple(images.shape)}", fix="Add a batch axis: images[None].")
    if 0 in images.shape[1:]:
        raise ShapeError(
            "images b c h w of at least one pixel",
            got=f"shape {tuple(images.shape)}",
            fix="Check how they were cut out.",
        )
    if images.dtype not in (torch.uint8, *FLOATS):
        raise DataError("images of dtype uint8 or float", got=str(images.dtype), fix="Convert with images.float().")


def check_float_images(images: Tensor) -> None:
    """Refuse what is not ``b c h w`` of floats, as bytes would be rounded to 0 on the way."""
    check_view_images(images)
    if images.dtype not in FLOATS:
        raise DataError("float images in [0, 1]", got=str(images.dtype), fix="Convert with images.float() / 255.")


def check_integer_tensor(numbers: Tensor, what: str) -> None:
    """Refuse numbers that could not count anything; bools would be taken for a mask."""
    if numbers.is_floating_point() or numbers.is_complex() or numbers.dtype == torch.bool:
        raise DataError(f"whole numbers as {what}", got=str(numbers.dtype), fix="Convert with .long() if they are.")


def uniform(images: Tensor, low: float, high: float, generator: Generator) -> Tensor:
    """Draw one number in [low, high) for each image: ``b``, on the images' device."""
    check_view_images(images)
    draws = torch.rand(len(images), generator=generator, device=generator.device)
    return (low + (high - low) * draws).to(images.device)


def bernoulli(images: Tensor, p: float, generator: Generator) -> Tensor:
    """Draw for each image whether something of probability ``p`` happens: ``b``, bool, on the images' device."""
    return uniform(images, 0, 1, generator) < check_float(
        "the probability", p, "[0, 1]", fix="0 is never, 1 is always."
    )


def randint(images: Tensor, count: int, generator: Generator) -> Tensor:
    """Draw one of 0…count-1 for each image: ``b``, int64, on the images' device."""
    check_view_images(images)
    return torch.randint(count, (len(images),), generator=generator, device=generator.device).to(images.device)


def select(chosen: Tensor, changed: Tensor, images: Tensor) -> Tensor:
    """Take ``changed`` for the chosen images (``b``, bool), and the others as they are.

    Interpolation by 0 or 1 gives the pixels to the last bit, and is faster than ``torch.where``.

    Example:
        >>> images = torch.tensor([0.2, 0.7]).view(2, 1, 1, 1)
        >>> select(torch.tensor([False, True]), 1 - images, images).flatten()
        tensor([0.2000, 0.3000])
    """
    chosen = chosen[:, None, None, None]
    if not images.is_floating_point():
        return torch.where(chosen, changed, images)
    return torch.lerp(images, changed, chosen.to(images.dtype))
