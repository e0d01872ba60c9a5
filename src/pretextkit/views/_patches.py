"""Patches cut out of images, each image at its own place, and cures for their shortcuts."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Generator, Tensor

from pretextkit._validation import check_float_images, check_int, check_integer_tensor, check_view_images
from pretextkit.errors import ShapeError
from pretextkit.views._random import bernoulli, randint, select

__all__ = ["cut_patches", "drop_colors", "standardize_patches"]


def cut_patches(images: Tensor, top: Tensor, left: Tensor, size: int) -> Tensor:
    """Cut one square patch out of each image.

    Args:
        images: ``b c h w``.
        top: ``b``, int64: first row of each image's patch.
        left: ``b``, int64: first column.
        size: ``p``.

    Returns:
        ``b c p p``.

    Raises:
        ShapeError: A patch reaches over the image's edge, or there is not one corner for each image.
        OptionError: ``size`` is below 1.
        DataError: The corners are not whole numbers.

    Example:
        >>> images = torch.arange(16.0).view(1, 1, 4, 4)
        >>> cut_patches(images, torch.tensor([1]), torch.tensor([2]), 2)
        tensor([[[[ 6.,  7.],
                  [10., 11.]]]])
    """
    check_view_images(images)
    if not top.shape == left.shape == images.shape[:1]:
        raise ShapeError(
            "one top and one left for each image",
            got=f"{tuple(top.shape)} tops and {tuple(left.shape)} lefts for {len(images)} images",
            fix="Pass both of shape (b,).",
        )
    check_integer_tensor(top, "tops")
    check_integer_tensor(left, "lefts")
    size = check_int("size", size, fix="For example size=9.")
    height, width = images.shape[2:]
    if len(images) and not (
        int(top.min()) >= 0
        and int(left.min()) >= 0
        and int(top.max()) + size <= height
        and int(left.max()) + size <= width
    ):
        raise ShapeError(
            f"patches of {size} pixels inside images of {height}x{width}",
            got=f"tops {int(top.min())} to {int(top.max())} and lefts {int(left.min())} to {int(left.max())}",
            fix="Use smaller patches or larger images.",
        )
    steps = torch.arange(size, device=images.device)
    rows = rearrange(top[:, None] + steps, "b p -> b p 1")
    columns = rearrange(left[:, None] + steps, "b p -> b 1 p")
    which = torch.arange(len(images), device=images.device)[:, None, None]
    return rearrange(images[which, :, rows, columns], "b h w c -> b c h w")


def drop_colors(patches: Tensor, p: float, *, generator: Generator) -> Tensor:
    """Replace every channel of a patch by one of them, drawn at random, with probability ``p``.

    Lenses shift the colors against each other towards the image's edges, so that a network that sees all channels
    can read off where a patch was instead of what it shows; one channel alone cannot tell
    (Doersch et al. 2015, arXiv 1505.05192, section 3.1: there the two others become noise).

    Args:
        patches: ``b c p p``.
        p: Probability.
        generator: Source of the draws.

    Returns:
        ``b c p p``.

    Raises:
        OptionError: ``p`` is not in [0, 1].
        ShapeError: The patches are not ``b c p p``.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> dropped = drop_colors(torch.rand(1, 3, 2, 2), p=1.0, generator=generator)
        >>> bool((dropped[:, 0] == dropped[:, 2]).all())
        True
    """
    dropped = bernoulli(patches, p, generator)
    kept = randint(patches, patches.shape[1], generator)
    channel = patches[torch.arange(len(patches), device=patches.device), kept][:, None]
    return select(dropped, channel, patches)


def standardize_patches(patches: Tensor) -> Tensor:
    """Give each patch the mean 0.5 and the standard deviation 0.25, and clamp it to [0, 1].

    Brightness falls towards the edges of a photograph: what a patch's own mean and contrast tell of its place is
    taken away, while values stay those that a backbone expects of images.

    Args:
        patches: ``b c p p``.

    Returns:
        ``b c p p`` in [0, 1]; a constant patch becomes 0.5 throughout.

    Raises:
        ShapeError: The patches are not ``b c p p``.

    Example:
        >>> standardize_patches(torch.tensor([[[[0.1, 0.3]]]]))
        tensor([[[[0.2500, 0.7500]]]])
    """
    check_float_images(patches)
    centered = patches - patches.mean((1, 2, 3), keepdim=True)
    deviation = centered.square().mean((1, 2, 3), keepdim=True).sqrt().clamp(min=1 / 255)
    return (0.5 + 0.25 * centered / deviation).clamp(0, 1)
