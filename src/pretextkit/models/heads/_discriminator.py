"""PatchDiscriminator: a convolutional discriminator of real and generated patches."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from pretextkit._validation import check_int
from pretextkit.contracts import Head
from pretextkit.errors import ShapeError
from pretextkit.registries import register_head

__all__ = ["PatchDiscriminator"]

MAX_WIDTH = 128


@register_head("patch-discriminator")
class PatchDiscriminator(Head):
    """A discriminator from images ``b c h w`` to logits ``b 1 h' w'``, above 0 for patches that look real.

    Each step halves the image. Scoring patches instead of the full image rewards sharp texture and allows any image
    size (Isola et al. 2017, arXiv 1611.07004). There is no BatchNorm, because its statistics could reveal whether a
    batch is real or generated.

    Args:
        in_channels: ``c``, channels of the images.
        width: Channels after the first step; each further step doubles the channels, up to 128.
        halvings: Number of steps; with 3, a logit sees a patch of 22x22 pixels.

    Raises:
        OptionError: An option is not an integer >= 1.
        ShapeError: The images are smaller than ``2 ** halvings`` pixels, or have another number of channels.

    Example:
        >>> PatchDiscriminator()(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 1, 4, 4])
    """

    def __init__(self, in_channels: int = 3, *, width: int = 32, halvings: int = 3) -> None:
        super().__init__()
        in_channels = check_int("in_channels", in_channels, of=type(self))
        width = check_int("width", width, of=type(self))
        halvings = check_int("halvings", halvings, of=type(self))
        self.in_channels, self.min_size = in_channels, 2**halvings
        widths = [in_channels, *(min(width << step, max(width, MAX_WIDTH)) for step in range(halvings))]
        self.layers = nn.Sequential()
        for inputs, outputs in pairwise(widths):
            self.layers.extend((nn.Conv2d(inputs, outputs, 4, 2, padding=1), nn.LeakyReLU(0.2)))
        self.layers.append(nn.Conv2d(widths[-1], 1, 1))

    def forward(self, features: Tensor) -> Tensor:
        if features.shape[1] != self.in_channels:
            raise ShapeError(
                f"images of {self.in_channels} channels for the discriminator",
                got=f"{features.shape[1]}",
                fix=f"Create it with in_channels={features.shape[1]}.",
            )
        if min(features.shape[2:]) < self.min_size:
            raise ShapeError(
                f"images of at least {self.min_size}x{self.min_size} pixels",
                got="x".join(map(str, features.shape[2:])),
                fix="Enlarge the images, or create the discriminator with fewer halvings.",
            )
        return self.layers(features)  # type: ignore[no-any-return]
