"""Synthetic defects on flawless surfaces, for choosing a method without looking at real defects.

The five kinds differ from the pieces that CutPaste pastes: a spot, a scratch, a chipped border, a smeared region, and a
band of a different brightness.
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor
from torch.nn.functional import avg_pool2d, interpolate, pad

__all__ = ["box_blur", "draw_defects"]


def box_blur(images: Tensor, side: int) -> Tensor:
    """Average ``b c h w`` over squares of an odd ``side``, with the border replicated."""
    return avg_pool2d(pad(images, (side // 2,) * 4, mode="replicate"), side, 1)


class DefectShapes:
    """Random masks for one image of ``height`` by ``width``; lengths are fractions of the height."""

    def __init__(self, height: int, width: int, generator: Generator) -> None:
        self.generator = generator
        self.y, self.x = torch.meshgrid(torch.arange(height) / height, torch.arange(width) / height, indexing="ij")
        self.right = width / height

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * torch.rand((), generator=self.generator).item()

    def blob(self, y: float, x: float, smallest: float, largest: float) -> Tensor:
        """Return an ellipse with a frayed outline, centered at ``y, x``."""
        angle = self.uniform(0, math.pi)
        along = math.cos(angle) * (self.x - x) + math.sin(angle) * (self.y - y)
        across = math.cos(angle) * (self.y - y) - math.sin(angle) * (self.x - x)
        long, short = self.uniform(smallest, largest), self.uniform(smallest, largest)
        noise = torch.randn(1, 1, 8, 8, generator=self.generator)
        fray = interpolate(noise, tuple(self.y.shape), mode="bicubic")[0, 0] / 4
        near = (self.y - y).abs() + (self.x - x).abs() < 0.01  # the mask is never empty
        return ((along / long).square() + (across / short).square()).sqrt() + fray.clamp(min=-0.5) < 1 | near

    def anywhere(self, smallest: float, largest: float) -> Tensor:
        return self.blob(self.uniform(0.1, 0.9), self.uniform(0.1, 0.9) * self.right, smallest, largest)

    def spot(self) -> Tensor:
        return self.anywhere(0.012, 0.04)

    def region(self) -> Tensor:
        return self.anywhere(0.06, 0.23)

    def chip(self) -> Tensor:
        """Return a blob on one of the four borders."""
        along, depth, side = self.uniform(0.1, 0.9), self.uniform(0, 0.06), self.uniform(0, 4)
        y, x = ((along, depth), (along, 1 - depth), (depth, along), (1 - depth, along))[min(3, int(side))]
        return self.blob(y, x * self.right, 0.03, 0.12)

    def scratch(self) -> Tensor:
        """Return a thin line with random bends."""
        steps = int(self.uniform(20, 90))
        bends = torch.rand(steps, generator=self.generator) * 0.5 - 0.25
        angles = self.uniform(0, math.pi) + bends.cumsum(0)
        y = self.uniform(0.1, 0.8) + angles.sin().cumsum(0) / 128
        x = self.uniform(0.15, 0.85) * self.right + angles.cos().cumsum(0) / 128
        distance = (self.y[..., None] - y).square() + (self.x[..., None] - x).square()
        return distance.amin(-1).sqrt() < self.uniform(0.006, 0.012)

    def band(self) -> Tensor:
        """Return the region above, below or beside a wavy line."""
        wave = 0.02 * torch.sin(self.x / self.uniform(0.06, 0.24) + self.uniform(0, 6))
        mask = self.y < self.uniform(0.12, 0.45) + wave
        mask = mask.flip(0) if self.uniform(0, 1) < 0.5 else mask
        square = mask.shape[0] == mask.shape[1]
        return mask.T if square and self.uniform(0, 1) < 0.3 else mask


def draw_defects(images: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
    """Draw one of five defects on each of ``b 1 h w``, in turn; return uint8 images and masks ``b h w``."""
    drawn, masks = [], []
    for row, image in enumerate(images.float()):
        shapes = DefectShapes(image.shape[1], image.shape[2], generator)
        kind = row % 5
        mask = (shapes.spot, shapes.scratch, shapes.chip, shapes.region, shapes.band)[kind]()
        soft = box_blur(mask[None, None].float(), 3)[0]
        weakest, strongest = ((0.25, 0.6), (0.2, 0.5), (0.3, 0.7), (0, 0.2), (0.1, 0.3))[kind]
        darker = kind < 2 or shapes.uniform(0, 1) < 0.5
        change = shapes.uniform(weakest, strongest) * (-1 if darker else 1)
        smooth = 0.0 if kind < 3 else 0.9  # fraction of the texture that smears and bands remove
        texture = torch.lerp(image, box_blur(image[None], 9 if kind == 3 else 3)[0], smooth * soft)
        drawn.append((texture * (1 + change * soft)).clamp(0, 255).to(torch.uint8))
        masks.append(mask)
    return torch.stack(drawn), torch.stack(masks)
