"""Synthetic images without a download: smooth colors with noise, similar to photographs."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Generator, Tensor, nn


def synthetic_images(count: int, height: int, width: int | None = None, seed: int = 0) -> Tensor:
    """Draw uint8 images ``count 3 height width``."""
    generator = Generator().manual_seed(seed)
    width = height if width is None else width
    coarse = torch.rand(count, 3, 6, 6, generator=generator)
    smooth = nn.functional.interpolate(coarse, (height, width), mode="bicubic", align_corners=False)
    grain = torch.randn(count, 3, height, width, generator=generator) * 0.03
    return ((smooth + grain).clamp(0, 1) * 255).round().to(torch.uint8)


def save_jpegs(root: Path, count: int, classes: int = 4) -> None:
    """Write JPEG files of 320x256 pixels to ``root``, one folder for each class."""
    from PIL import Image

    for label in range(classes):
        (root / f"class{label}").mkdir(parents=True)
    for number in range(count):
        (image,) = synthetic_images(1, 256, 320, seed=number)
        path = root / f"class{number % classes}" / f"{number:05d}.jpg"
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(path, quality=90)
