"""Two SimCLR views of each image: batched by pretextkit, compared with peers that work by image or by batch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Generator, Tensor

import pretextkit as pk
from comparisons.synthetic import synthetic_images
from comparisons.timing import Comparison, Effort, Row, race, require_close
from pretextkit.views import CropAndRecolor

STRENGTH = 0.5
"""Strength of the color jitter on every side; SimCLR on ImageNet has 1."""
SCALE = (0.2, 1.0)
JITTER = (0.8 * STRENGTH, 0.8 * STRENGTH, 0.8 * STRENGTH, 0.2 * STRENGTH)


def lightly_views(images: Tensor) -> Callable[[], list[Tensor]]:
    """Return lightly's views of PIL images, the format of its datasets, stacked as by a loader."""
    from lightly.transforms import SimCLRTransform
    from torchvision.transforms.functional import to_pil_image

    pil = [to_pil_image(image) for image in images]
    transform: Any = SimCLRTransform(
        input_size=images.shape[-1], cj_strength=STRENGTH, min_scale=SCALE[0], gaussian_blur=0.0, normalize=None
    )
    return lambda: [torch.stack(views) for views in zip(*map(transform, pil), strict=True)]


def torchvision_views(images: Tensor) -> Callable[[], list[Tensor]]:
    """Return torchvision's v2 views of tensors, image by image."""
    from torchvision.transforms import v2

    transform = v2.Compose(
        [
            v2.RandomResizedCrop(images.shape[-1], scale=SCALE, antialias=True),
            v2.RandomHorizontalFlip(),
            v2.RandomApply([v2.ColorJitter(*JITTER)], 0.8),
            v2.RandomGrayscale(0.2),
            v2.ToDtype(torch.float32, scale=True),
        ]
    )
    return lambda: [torch.stack([transform(image) for image in images]) for _ in range(2)]


def kornia_views(images: Tensor) -> Callable[[], list[Tensor]]:
    """Return kornia's views of the batch, with separate random numbers for each image."""
    from kornia import augmentation as K

    side = images.shape[-1]
    transform = K.AugmentationSequential(
        K.RandomResizedCrop((side, side), scale=SCALE),
        K.RandomHorizontalFlip(),
        K.ColorJitter(*JITTER, p=0.8),
        K.RandomGrayscale(p=0.2),
    )
    return lambda: [transform(images.float() / 255) for _ in range(2)]


def measure(side: int, peer: Callable[[Tensor], Callable[[], list[Tensor]]], effort: Effort) -> Row:
    """Compare the mean and the standard deviation of the pixels (within 0.03), then race."""
    images = synthetic_images(effort.of(256 if side <= 32 else 64, 32), side)
    view = CropAndRecolor(jitter=STRENGTH, crop_scale=SCALE)
    task = pk.tasks.SimCLR(pk.models.SmallCNN(), augmentation=view)
    generator = Generator().manual_seed(0)
    theirs = peer(images)

    def ours() -> list[Tensor]:
        return list(task.views(images.float() / 255, generator))

    torch.manual_seed(0)
    views = [torch.cat([torch.cat(run()) for _ in range(effort.of(8, 2))]) for run in (ours, theirs)]
    distances = [
        require_close("mean of the pixels", views[0].mean().item(), views[1].mean().item(), 0.03),
        require_close("deviation of the pixels", views[0].std().item(), views[1].std().item(), 0.03),
    ]
    row = race(ours, theirs, effort)
    return {**row, "views_per_second": 2 * len(images) / row["our_seconds"], "checked": distances}


COMPARISONS = [
    Comparison(f"two SimCLR views, {side}x{side}", name, partial(measure, side, peer), bound)
    for side in (32, 96)
    for name, peer, bound in (
        ("lightly", lightly_views, 12.0),
        ("torchvision v2, image by image", torchvision_views, 12.0),
        ("kornia, batched", kornia_views, 2.0),
    )
]
