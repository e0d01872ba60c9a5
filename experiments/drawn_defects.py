"""Defects drawn on flawless surfaces, to choose a method by before any true defect is looked at.

They are none of the pieces that CutPaste pastes: a spot, a scratch, a chipped border, a smeared region, or a band of
another brightness, in turn.
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor
from torch.nn.functional import avg_pool2d, interpolate, pad

__all__ = ["box_blur", "draw_defects"]


def box_blur(images: Tensor, side: int) -> Tensor:
    """Average ``b c h w`` over squares of ``side``, an odd number, with the border repeated."""
    return avg_pool2d(pad(images, (side // 2,) * 4, mode="replicate"), side, 1)


class Pen:
    """What is drawn on one image of ``height`` by ``width``, with lengths as shares of its height."""

    def __init__(self, height: int, width: int, generator: Generator) -> None:
        self.generator = generator
        self.y, self.x = torch.meshgrid(torch.arange(height) / height, torch.arange(width) / height, indexing="ij")
        self.right = width / height

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * torch.rand((), generator=self.generator).item()

    def blob(self, y: float, x: float, smallest: float, largest: float) -> Tensor:
        """Mark an ellipse with a frayed outline, around a place."""
        angle = self.between(0, math.pi)
        along = math.cos(angle) * (self.x - x) + math.sin(angle) * (self.y - y)
        across = math.cos(angle) * (self.y - y) - math.sin(angle) * (self.x - x)
        long, short = self.between(smallest, largest), self.between(smallest, largest)
        noise = torch.randn(1, 1, 8, 8, generator=self.generator)
        fray = interpolate(noise, tuple(self.y.shape), mode="bicubic")[0, 0] / 4
        near = (self.y - y).abs() + (self.x - x).abs() < 0.01  # never empty
        return ((along / long).square() + (across / short).square()).sqrt() + fray.clamp(min=-0.5) < 1 | near

    def anywhere(self, smallest: float, largest: float) -> Tensor:
        return self.blob(self.between(0.1, 0.9), self.between(0.1, 0.9) * self.right, smallest, largest)

    def spot(self) -> Tensor:
        return self.anywhere(0.012, 0.04)

    def region(self) -> Tensor:
        return self.anywhere(0.06, 0.23)

    def chip(self) -> Tensor:
        """Mark a blob on one of the four borders."""
        along, depth, side = self.between(0.1, 0.9), self.between(0, 0.06), self.between(0, 4)
        y, x = ((along, depth), (along, 1 - depth), (depth, along), (1 - depth, along))[min(3, int(side))]
        return self.blob(y, x * self.right, 0.03, 0.12)

    def scratch(self) -> Tensor:
        """Mark a thin line that bends at random."""
        steps = int(self.between(20, 90))
        bends = torch.rand(steps, generator=self.generator) * 0.5 - 0.25
        angles = self.between(0, math.pi) + bends.cumsum(0)
        y = self.between(0.1, 0.8) + angles.sin().cumsum(0) / 128
        x = self.between(0.15, 0.85) * self.right + angles.cos().cumsum(0) / 128
        distance = (self.y[..., None] - y).square() + (self.x[..., None] - x).square()
        return distance.amin(-1).sqrt() < self.between(0.006, 0.012)

    def band(self) -> Tensor:
        """Mark all that is above a wavy line, below it, or beside it."""
        wave = 0.02 * torch.sin(self.x / self.between(0.06, 0.24) + self.between(0, 6))
        mask = self.y < self.between(0.12, 0.45) + wave
        mask = mask.flip(0) if self.between(0, 1) < 0.5 else mask
        square = mask.shape[0] == mask.shape[1]
        return mask.T if square and self.between(0, 1) < 0.3 else mask


def draw_defects(images: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
    """Draw one of five defects on each of ``b 1 h w``, in turn; give the images, uint8, and the masks ``b h w``."""
    drawn, masks = [], []
    for row, image in enumerate(images.float()):
        pen = Pen(image.shape[1], image.shape[2], generator)
        kind = row % 5
        mask = (pen.spot, pen.scratch, pen.chip, pen.region, pen.band)[kind]()
        soft = box_blur(mask[None, None].float(), 3)[0]
        weakest, strongest = ((0.25, 0.6), (0.2, 0.5), (0.3, 0.7), (0, 0.2), (0.1, 0.3))[kind]
        darker = kind < 2 or pen.between(0, 1) < 0.5
        change = pen.between(weakest, strongest) * (-1 if darker else 1)
        smooth = 0.0 if kind < 3 else 0.9  # of the texture that is lost in smears and bands
        texture = torch.lerp(image, box_blur(image[None], 9 if kind == 3 else 3)[0], smooth * soft)
        drawn.append((texture * (1 + change * soft)).clamp(0, 255).to(torch.uint8))
        masks.append(mask)
    return torch.stack(drawn), torch.stack(masks)
