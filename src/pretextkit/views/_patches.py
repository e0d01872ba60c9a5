"""Patches cut out of images, and the removal of their shortcuts."""

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
        top: ``b``, int64, first row of each patch.
        left: ``b``, int64, first column of each patch.
        size: ``p``, side of a patch in pixels.

    Returns:
        ``b c p p``.

    Raises:
        ShapeError: A patch exceeds the image, or there is not one corner for each image.
        OptionError: ``size`` is below 1.
        DataError: The corners are not integers.

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
            fix="Pass top and left of shape (b,).",
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
    index = torch.arange(len(images), device=images.device)[:, None, None]
    return rearrange(images[index, :, rows, columns], "b h w c -> b c h w")


def drop_colors(patches: Tensor, p: float, *, generator: Generator) -> Tensor:
    """Replace all channels of a patch by one random channel, with probability ``p``.

    Lenses have chromatic aberration: channels are shifted relative to each other, more so near the edges of an image. A
    network can read the position of a patch from this shift; one channel does not reveal it (Doersch et al. 2015,
    arXiv 1505.05192, section 3.1, where noise replaces the two other channels).

    Args:
        patches: ``b c p p``.
        p: Probability of keeping only one channel.
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
    """Scale each patch to mean 0.5 and standard deviation 0.25, and clamp it to [0, 1].

    Photographs become darker towards their edges (vignetting), so mean and contrast of a patch reveal its position.
    Values stay in the range that a backbone expects of images.

    Args:
        patches: ``b c p p``.

    Returns:
        ``b c p p`` in [0, 1]; all pixels of a constant patch become 0.5.

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
