"""A convolutional decoder from feature maps to images."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from pretextkit.contracts import Head
from pretextkit.registries import head

__all__ = ["ConvDecoder"]


@head("conv-decoder")
class ConvDecoder(Head):
    """Feature maps ``b d h' w'`` to images ``b c h w`` in [0, 1].

    Each step doubles the map by nearest-neighbour resizing followed by a 3x3 convolution, which leaves no
    checkerboard (Odena et al. 2016, doi 10.23915/distill.00003), and halves its channels.

    Args:
        in_dim: ``d``, channels of the map.
        out_channels: ``c``.
        doublings: How many times the map is doubled: 3 bring a 4x4 map back to 32x32.

    Example:
        >>> ConvDecoder(256)(torch.rand(2, 256, 4, 4)).shape
        torch.Size([2, 3, 32, 32])
    """

    def __init__(self, in_dim: int, out_channels: int = 3, *, doublings: int = 3) -> None:
        super().__init__()
        widths = [max(in_dim >> step, 16) for step in range(doublings + 1)]
        self.layers = nn.Sequential()
        for inputs, outputs in pairwise(widths):
            self.layers.extend(
                (
                    nn.Upsample(scale_factor=2, mode="nearest"),
                    nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
                    nn.BatchNorm2d(outputs),
                    nn.ReLU(inplace=True),
                )
            )
        self.layers.append(nn.Conv2d(widths[-1], out_channels, 3, padding=1))

    def forward(self, features: Tensor) -> Tensor:
        return torch.sigmoid(self.layers(features))
