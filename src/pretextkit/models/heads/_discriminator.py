"""A convolutional discriminator, which tells true images from made ones."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from pretextkit._validation import check_int
from pretextkit.contracts import Head
from pretextkit.errors import ShapeError
from pretextkit.registries import register_head

__all__ = ["PatchDiscriminator"]

WIDEST = 128


@register_head("patch-discriminator")
class PatchDiscriminator(Head):
    """Images ``b c h w`` to logits ``b 1 h' w'``, above 0 where a patch looks true.

    Each step halves the image. That every patch is judged, and not the image as a whole, asks for sharp texture and
    lets images have any size (Isola et al. 2017, arXiv 1611.07004). There is no BatchNorm, by whose statistics a batch
    of true images could be told from one of made ones.

    Args:
        in_channels: ``c``.
        width: Channels after the first step; each further one doubles them, up to 128.
        halvings: How many steps: 3 judge patches of 22 pixels.

    Raises:
        OptionError: A number is no whole number of at least 1.
        ShapeError: The images have fewer pixels than the steps halve.

    Example:
        >>> PatchDiscriminator()(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 1, 4, 4])
    """

    def __init__(self, in_channels: int = 3, *, width: int = 32, halvings: int = 3) -> None:
        super().__init__()
        in_channels = check_int("in_channels", in_channels, of=PatchDiscriminator)
        width = check_int("width", width, of=PatchDiscriminator)
        halvings = check_int("halvings", halvings, of=PatchDiscriminator)
        self.smallest = 2**halvings
        widths = [in_channels, *(min(width << step, max(width, WIDEST)) for step in range(halvings))]
        self.layers = nn.Sequential()
        for inputs, outputs in pairwise(widths):
            self.layers.extend((nn.Conv2d(inputs, outputs, 4, 2, padding=1), nn.LeakyReLU(0.2)))
        self.layers.append(nn.Conv2d(widths[-1], 1, 1))

    def forward(self, features: Tensor) -> Tensor:
        if min(features.shape[2:]) < self.smallest:
            raise ShapeError(
                f"images of at least {self.smallest}x{self.smallest} pixels",
                got="x".join(map(str, features.shape[2:])),
                fix="Scale them up, or make the discriminator with fewer halvings.",
            )
        return self.layers(features)  # type: ignore[no-any-return]
