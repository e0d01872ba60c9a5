"""ConvDecoder: a convolutional decoder from feature maps to images."""

from __future__ import annotations

import copy
import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from pretextkit._modules import unwrap
from pretextkit._validation import check_int
from pretextkit.contracts import Head, SpatialBackbone
from pretextkit.errors import OptionError
from pretextkit.registries import register_head
from pretextkit.views import to_grayscale

__all__ = ["ConvDecoder", "match_images", "match_size"]

TRIAL_SIZE = 32
"""Smallest side in pixels of the trial image on which the halvings of a backbone are counted."""


@register_head("conv-decoder")
class ConvDecoder(Head):
    """A decoder from feature maps ``b d h' w'`` to images ``b c h w`` in [0, 1].

    Each step doubles the map by nearest-neighbor resizing followed by a 3x3 convolution, which avoids checkerboard
    artifacts (Odena et al. 2016, doi 10.23915/distill.00003). The first step quarters the channels and the others halve
    them, down to 16, because large maps are costly and the decoder is not kept after pretraining.

    Args:
        in_dim: ``d``, channels of the map.
        out_channels: ``c``, channels of the images.
        doublings: Number of steps; 3 turn a 4x4 map into 32x32 pixels.
        bottleneck: Number of channels to which the map is reduced first; None keeps all. Without a bottleneck, a map of
            256x8x8 holds more numbers than the image of 3x64x64, and reconstruction is trivial.

    Raises:
        OptionError: A number of channels is not an integer >= 1, or ``doublings`` is not an integer >= 0.

    Example:
        >>> ConvDecoder(256)(torch.rand(2, 256, 4, 4)).shape
        torch.Size([2, 3, 32, 32])
    """

    def __init__(
        self, in_dim: int, out_channels: int = 3, *, doublings: int = 3, bottleneck: int | None = None
    ) -> None:
        super().__init__()
        in_dim = check_int("in_dim", in_dim, fix="For example backbone.feature_dim.")
        out_channels = check_int("out_channels", out_channels, of=type(self))
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
    def fitting(
        cls, backbone: SpatialBackbone, out_channels: int | None = None, *, bottleneck: int | None = None
    ) -> ConvDecoder:
        """Make a decoder with as many doublings as the backbone has halvings.

        A copy of the backbone runs on a black trial image to count its halvings.

        Args:
            backbone: Backbone whose feature map is decoded.
            out_channels: Channels of the images; None takes those of the backbone, and 3 in place of 1, because tasks
                reduce colors to gray.
            bottleneck: Number of channels to which the map is reduced first; None keeps all.

        Raises:
            OptionError: The backbone has no feature maps, or a number of channels is below 1.

        Example:
            >>> from pretextkit.models import SmallCNN
            >>> backbone = SmallCNN()
            >>> ConvDecoder.fitting(backbone)(backbone.feature_map(torch.rand(2, 3, 64, 64))).shape
            torch.Size([2, 3, 64, 64])
        """
        network = unwrap(backbone)
        if not isinstance(network, SpatialBackbone):
            raise OptionError(
                "a SpatialBackbone, because images are decoded from its last feature map",
                got=type(backbone).__name__,
                fix="Derive it from pretextkit.SpatialBackbone and define stages().",
            )
        size = max(TRIAL_SIZE, network.smallest_image)
        channels = network.normalization.channels
        trial = next(network.parameters()).new_zeros(1, channels, size, size)
        with torch.no_grad():
            side = min(copy.deepcopy(network).eval().feature_map(trial).shape[2:])
        doublings = max(0, math.ceil(math.log2(size / side)))
        if out_channels is None:
            out_channels = 3 if channels == 1 else channels  # a network of one channel also takes color images
        return cls(network.feature_dim, out_channels, doublings=doublings, bottleneck=bottleneck)

    def forward(self, features: Tensor) -> Tensor:
        return torch.sigmoid(self.layers(features))


def match_images(decoded: Tensor, images: Tensor) -> Tensor:
    """Convert decoded images to the size and number of channels of ``images``.

    Args:
        decoded: ``b 3 h' w'``, or as many channels as ``images``.
        images: ``b c h w``.

    Returns:
        ``b c h w``; resized if sizes differ, and colors converted to luma for gray images.

    Example:
        >>> match_images(torch.rand(2, 3, 32, 32), torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 1, 28, 28])
    """
    decoded = match_size(decoded, images)
    return to_grayscale(decoded) if images.shape[1] == 1 else decoded  # other numbers are equal already


def match_size(decoded: Tensor, images: Tensor) -> Tensor:
    """Resize decoded images to the height and width of ``images``, if they differ.

    Three halvings round 28 pixels up to 4, and three doublings make 32 of them.

    Example:
        >>> match_size(torch.rand(2, 2, 32, 32), torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 2, 28, 28])
    """
    if decoded.shape[2:] == images.shape[2:]:
        return decoded
    return nn.functional.interpolate(decoded, images.shape[2:], mode="bilinear", align_corners=False)
