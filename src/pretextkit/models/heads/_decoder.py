"""A convolutional decoder from feature maps to images."""

from __future__ import annotations

import copy
import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from pretextkit._color import luma
from pretextkit._validation import check_int
from pretextkit.contracts import Head, SpatialBackbone
from pretextkit.errors import OptionError
from pretextkit.registries import register_head

__all__ = ["ConvDecoder", "match_images", "match_size"]

TRIAL_SIZE = 32
"""Pixels of the image on which it is counted how often a backbone halves."""


@register_head("conv-decoder")
class ConvDecoder(Head):
    """Feature maps ``b d h' w'`` to images ``b c h w`` in [0, 1].

    Each step doubles the map by nearest-neighbor resizing followed by a 3x3 convolution, which leaves no
    checkerboard (Odena et al. 2016, doi 10.23915/distill.00003). The first step quarters the channels and the others
    halve them, down to 16: what is costly is large maps, and the product is the backbone.

    Args:
        in_dim: ``d``, channels of the map.
        out_channels: ``c``.
        doublings: How many times the map is doubled: 3 bring a 4x4 map back to 32x32.
        bottleneck: Channels to which the map is reduced first. Without it a map of 256x8x8 holds more numbers than the
            image of 3x64x64 that it was made of, and no image is hard to reconstruct.

    Raises:
        OptionError: A number of channels is no whole number of at least 1, or ``doublings`` none of at least 0.

    Example:
        >>> ConvDecoder(256)(torch.rand(2, 256, 4, 4)).shape
        torch.Size([2, 3, 32, 32])
    """

    def __init__(
        self, in_dim: int, out_channels: int = 3, *, doublings: int = 3, bottleneck: int | None = None
    ) -> None:
        super().__init__()
        in_dim = check_int("in_dim", in_dim, fix="For example backbone.feature_dim.")
        out_channels = check_int("out_channels", out_channels, of=ConvDecoder)
        doublings = check_int("doublings", doublings, at_least=0, fix="ConvDecoder.fitting(backbone) counts them.")
        widths = [in_dim, *(max(in_dim >> step, 16) for step in range(2, doublings + 2))]
        self.layers = nn.Sequential()
        if bottleneck is not None:
            bottleneck = check_int("bottleneck", bottleneck, fix="None leaves the map as it is.")
            self.layers.extend((nn.Conv2d(in_dim, bottleneck, 1), nn.Conv2d(bottleneck, in_dim, 1)))
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

    @classmethod
    def fitting(cls, backbone: SpatialBackbone, out_channels: int = 3, *, bottleneck: int | None = None) -> ConvDecoder:
        """Make the decoder that undoes a backbone's halvings.

        A copy of the backbone is tried on a black image to count them.

        Raises:
            OptionError: The backbone has no feature maps, or a number of channels is below 1.

        Example:
            >>> from pretextkit.models import SmallCNN
            >>> backbone = SmallCNN()
            >>> ConvDecoder.fitting(backbone)(backbone.feature_map(torch.rand(2, 3, 64, 64))).shape
            torch.Size([2, 3, 64, 64])
        """
        if not isinstance(backbone, SpatialBackbone):
            raise OptionError(
                "a SpatialBackbone, as images are decoded from its last feature map",
                got=type(backbone).__name__,
                fix="Derive it from pretextkit.SpatialBackbone and define stages().",
            )
        trial = next(backbone.parameters()).new_zeros(1, backbone.normalization.channels, TRIAL_SIZE, TRIAL_SIZE)
        with torch.no_grad():
            side = min(copy.deepcopy(backbone).eval().feature_map(trial).shape[2:])
        doublings = max(0, math.ceil(math.log2(TRIAL_SIZE / side)))
        return cls(backbone.feature_dim, out_channels, doublings=doublings, bottleneck=bottleneck)

    def forward(self, features: Tensor) -> Tensor:
        return torch.sigmoid(self.layers(features))


def match_images(decoded: Tensor, images: Tensor) -> Tensor:
    """Bring what a decoder gave for ``images`` to their size and channels, so that the two can be compared.

    Args:
        decoded: ``b 3 h' w'``.
        images: ``b c h w`` with 1 or 3 channels.

    Returns:
        ``b c h w``; resized where sizes differ, and reduced to luma for gray images.

    Example:
        >>> match_images(torch.rand(2, 3, 32, 32), torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 1, 28, 28])
    """
    decoded = match_size(decoded, images)
    if images.shape[1] == 1:
        decoded = luma(decoded)
    return decoded


def match_size(decoded: Tensor, images: Tensor) -> Tensor:
    """Resize what a decoder gave for ``images`` to their height and width, where they differ.

    A backbone rounds up when it halves 28 pixels to 4, which doubled three times are 32.

    Example:
        >>> match_size(torch.rand(2, 2, 32, 32), torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 2, 28, 28])
    """
    if decoded.shape[2:] == images.shape[2:]:
        return decoded
    return nn.functional.interpolate(decoded, images.shape[2:], mode="bilinear", align_corners=False)
