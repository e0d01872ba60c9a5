"""Toy images with learnable content, noise images, and a backbone that trains in seconds."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Generator, Tensor, nn

from pretextkit.contracts import SpatialBackbone, TokenBackbone
from pretextkit.models._transformer import Block, initialize, sincos_positions

__all__ = ["TinyBackbone", "TinyTokenBackbone", "noise_images", "toy_images"]


def toy_images(n: int, *, size: int | tuple[int, int] = 32, channels: int = 3, generator: Generator) -> Tensor:
    """Draw landscapes: a bright sky above dark ground, a glow in the center, stripes, three colored shapes.

    The sky shows the rotation. The glow shows the position of a patch, even without its mean and contrast. Hues,
    stripes and shapes differ between images, for contrastive tasks and inpainting. A network of 20,000 parameters
    learns each of these in a few dozen steps.

    Args:
        n: Number of images.
        size: Height and width in pixels, or one number for both.
        channels: Channels ``c``.
        generator: Source of all random numbers.

    Returns:
        ``n c h w`` in [0, 1].

    Example:
        >>> images = toy_images(16, size=28, channels=1, generator=torch.Generator().manual_seed(0))
        >>> images.shape
        torch.Size([16, 1, 28, 28])
        >>> bool(images[:, :, 0].mean() > images[:, :, -1].mean() + 0.2)
        True
    """
    height, width = (size, size) if isinstance(size, int) else size

    def draw(low: float, high: float, maps: int = 1) -> Tensor:
        return low + (high - low) * torch.rand(n, maps, 1, 1, generator=generator)

    y = torch.linspace(0, 1, height).view(1, 1, height, 1)
    x = torch.linspace(0, 1, width).view(1, 1, 1, width)
    images = draw(0.3, 0.6, channels) + draw(0.4, 0.7) * (0.5 - y)
    distance = (x - draw(0.45, 0.55)).square() + (y - draw(0.45, 0.55)).square()
    images = images + draw(0.3, 0.5) * (-distance / 0.1).exp()
    angle, waves = draw(0, math.pi), draw(2, 8)
    images = images + draw(0.15, 0.3) * (2 * math.pi * waves * (x * angle.cos() + y * angle.sin())).sin()
    for _ in range(3):
        across = (x - draw(0.1, 0.9)).abs() / draw(0.06, 0.18)
        down = (y - draw(0.3, 0.9)).abs() / draw(0.06, 0.18)
        boxy = draw(0, 1) < 0.5
        inside = torch.where(boxy, torch.maximum(across, down), across.square() + down.square()) < 1
        images = torch.where(inside, draw(0, 1, channels), images)
    grain = 0.02 * torch.randn(n, channels, height, width, generator=generator)
    return (images + grain).clamp(0, 1)


def noise_images(n: int, *, size: int | tuple[int, int] = 32, channels: int = 3, generator: Generator) -> Tensor:
    """Draw noise images ``n c h w`` in [0, 1], with independent pixels.

    A model can learn only artifacts of the views from these images.

    Example:
        >>> noise_images(2, size=8, generator=torch.Generator().manual_seed(0)).shape
        torch.Size([2, 3, 8, 8])
    """
    height, width = (size, size) if isinstance(size, int) else size
    return torch.rand(n, channels, height, width, generator=generator)


class TinyBackbone(SpatialBackbone):
    """Three strided convolutions with 24,000 parameters and 64 features, for toy images.

    Check pretext tasks with this backbone: the kit trains the task for 80 steps, which takes minutes with a backbone
    of millions of parameters. It uses GroupNorm, because BatchNorm hides a collapse in the first steps.

    Example:
        >>> [tuple(stage.shape[1:]) for stage in TinyBackbone().stages(torch.rand(2, 3, 32, 32))]
        [(16, 16, 16), (32, 8, 8), (64, 4, 4)]
    """

    feature_dim = 64

    def __init__(self, *, in_channels: int = 3) -> None:
        super().__init__(in_channels=in_channels)
        widths = (in_channels, 16, 32, 64)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False), nn.GroupNorm(4, outputs), nn.ReLU())
            for inputs, outputs in pairwise(widths)
        )

    def stages(self, images: Tensor) -> tuple[Tensor, ...]:
        maps = [self.normalization(images)]
        for layer in self.layers:
            maps.append(layer(maps[-1]))
        return tuple(maps[1:])


class TinyTokenBackbone(TokenBackbone):
    """Two transformer blocks on patches of 4 pixels, with 27,000 parameters and 32 features, for toy images.

    Check pretext tasks that need a :class:`~pretextkit.TokenBackbone` with this one, and all other tasks with
    :class:`TinyBackbone`.

    Example:
        >>> TinyTokenBackbone().tokens(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 64, 32])
    """

    feature_dim, patch = 32, 4

    def __init__(self, *, in_channels: int = 3) -> None:
        super().__init__(in_channels=in_channels)
        self.embedding = nn.Conv2d(in_channels, self.feature_dim, self.patch, self.patch)
        self.blocks = nn.ModuleList(Block(self.feature_dim, 2) for _ in range(2))
        initialize(self)

    def tokens(self, images: Tensor) -> Tensor:
        images = self.normalization(images)
        bottom, right = (-side % self.patch for side in images.shape[2:])
        tokens: Tensor = self.embedding(nn.functional.pad(images, (0, right, 0, bottom))).flatten(2).transpose(1, 2)
        return tokens + sincos_positions(*self.grid(images), self.feature_dim, tokens)

    def encode_stages(self, tokens: Tensor) -> tuple[Tensor, ...]:
        stages = [tokens]
        for block in self.blocks:
            stages.append(block(stages[-1]))
        return tuple(stages[1:])
