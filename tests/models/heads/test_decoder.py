from __future__ import annotations

import pytest
import torch
from torch import Generator, nn

from pretextkit._color import LUMA
from pretextkit.models import ConvDecoder
from pretextkit.models.heads._decoder import match_images
from pretextkit.testing import TinyBackbone


def maps(d: int, side: int = 4) -> torch.Tensor:
    return torch.randn(2, d, side, side, generator=Generator().manual_seed(0))


@pytest.mark.parametrize("doublings", [0, 1, 3, 5])
@pytest.mark.parametrize(("d", "channels", "side"), [(256, 3, 1), (24, 1, 3), (8, 3, 2)])
def test_each_step_doubles_the_map(d: int, channels: int, side: int, doublings: int) -> None:
    images = ConvDecoder(d, channels, doublings=doublings)(maps(d, side))
    assert images.shape == (2, channels, side * 2**doublings, side * 2**doublings)


def test_decoder_keeps_the_aspect_ratio() -> None:
    assert ConvDecoder(16)(torch.zeros(2, 16, 2, 3)).shape == (2, 3, 16, 24)


def test_channels_shrink_down_to_sixteen() -> None:
    widths = [layer.out_channels for layer in ConvDecoder(256, doublings=5).modules() if isinstance(layer, nn.Conv2d)]
    assert widths == [64, 32, 16, 16, 16, 3]


def test_decoded_values_are_in_unit_range() -> None:
    images = ConvDecoder(16)(1e3 * maps(16))
    assert images.min() >= 0
    assert images.max() <= 1
    assert images.std() > 0.05


def test_new_decoders_have_no_checkerboard() -> None:
    """A constant map gives a constant image; strided transposed convolutions would add a grid."""
    images = ConvDecoder(16, doublings=2).eval()(torch.ones(1, 16, 12, 12))
    inner = images[..., 12:-12, 12:-12]
    torch.testing.assert_close(inner, inner[..., :1, :1].expand_as(inner), atol=1e-6, rtol=0)


class Halving(TinyBackbone):
    """A backbone that downscales its input by a factor."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def stages(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return super().stages(nn.functional.interpolate(images, scale_factor=1 / self.factor))


@pytest.mark.parametrize(
    ("factor", "doublings"), [(1, 3), (4 / 3, 4), (2, 4), (4, 5), (1 / 4, 1), (1 / 8, 0), (1 / 16, 0)]
)
def test_fitted_decoder_doubles_as_often_as_backbone_halves(factor: float, doublings: int) -> None:
    decoder = ConvDecoder.fitting(Halving(factor))
    assert sum(isinstance(layer, nn.Upsample) for layer in decoder.modules()) == doublings


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("height", "width"), [(28, 28), (32, 32), (40, 35)])
def test_match_images_gives_size_and_channels_of_images(height: int, width: int, channels: int) -> None:
    """A ramp stays a ramp from edge to edge: nothing is cropped or shifted."""
    ramp = ((torch.arange(32) + 0.5) / 32).expand(1, 3, 32, 32)
    matched = match_images(ramp, torch.zeros(1, channels, height, width))
    assert matched.shape == (1, channels, height, width)
    wanted = ((torch.arange(width) + 0.5) / width).expand(channels, height, width)
    torch.testing.assert_close(matched[0], wanted, atol=1 / 64, rtol=0)


def test_match_images_keeps_matching_and_converts_to_luma() -> None:
    decoded = torch.rand(2, 3, 4, 4, generator=Generator().manual_seed(0))
    assert match_images(decoded, torch.zeros(2, 3, 4, 4)) is decoded
    luma = sum(weight * decoded[:, [channel]] for channel, weight in enumerate(LUMA))
    torch.testing.assert_close(match_images(decoded, torch.zeros(2, 1, 4, 4)), luma)
