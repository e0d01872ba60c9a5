from __future__ import annotations

import pytest
import torch
from torch import Generator, nn

from pretextkit.models import ConvDecoder


def maps(d: int, side: int = 4) -> torch.Tensor:
    return torch.randn(2, d, side, side, generator=Generator().manual_seed(0))


@pytest.mark.parametrize("doublings", [0, 1, 3, 5])
@pytest.mark.parametrize(("d", "channels", "side"), [(256, 3, 1), (24, 1, 3)])
def test_each_step_doubles_the_map(d: int, channels: int, side: int, doublings: int) -> None:
    images = ConvDecoder(d, channels, doublings=doublings)(maps(d, side))
    assert images.shape == (2, channels, side * 2**doublings, side * 2**doublings)


def test_oblong_maps_stay_oblong() -> None:
    assert ConvDecoder(16)(torch.zeros(2, 16, 2, 3)).shape == (2, 3, 16, 24)


def test_channels_are_halved_and_never_below_sixteen() -> None:
    widths = [layer.out_channels for layer in ConvDecoder(128, doublings=5).modules() if isinstance(layer, nn.Conv2d)]
    assert widths == [64, 32, 16, 16, 16, 3]


def test_values_lie_in_the_range_of_images() -> None:
    images = ConvDecoder(16)(1e3 * maps(16))
    assert images.min() >= 0
    assert images.max() <= 1
    assert images.std() > 0.05


def test_new_decoders_leave_no_checkerboard() -> None:
    """From an even map comes an even image: strided transposed convolutions would print their grid on it."""
    images = ConvDecoder(16, doublings=2).eval()(torch.ones(1, 16, 12, 12))
    inner = images[..., 12:-12, 12:-12]
    torch.testing.assert_close(inner, inner[..., :1, :1].expand_as(inner), atol=1e-6, rtol=0)
