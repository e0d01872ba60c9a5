from __future__ import annotations

import pytest
import torch
from torch import Generator

from pretextkit.errors import OptionError, ShapeError
from pretextkit.models import PatchDiscriminator


@pytest.mark.parametrize(("size", "halvings", "side"), [(32, 3, 4), (28, 3, 3), (64, 2, 16), (8, 3, 1)])
def test_each_step_halves_the_image(size: int, halvings: int, side: int) -> None:
    assert PatchDiscriminator(halvings=halvings)(torch.rand(2, 3, size, size)).shape == (2, 1, side, side)


def test_logit_depends_on_a_patch_of_22_pixels() -> None:
    images = torch.rand(1, 3, 64, 64, generator=Generator().manual_seed(0)).requires_grad_()
    (gradient,) = torch.autograd.grad(PatchDiscriminator()(images)[0, 0, 4, 4], images)
    rows = torch.nonzero(gradient.abs().sum((0, 1, 3)))[:, 0]
    assert (len(rows), int(rows[0])) == (22, 4 * 8 - 7)


def test_channels_double_up_to_128() -> None:
    widths = [
        layer.out_channels
        for layer in PatchDiscriminator(width=40, halvings=4).layers
        if hasattr(layer, "out_channels")
    ]
    assert widths == [40, 80, 128, 128, 1]


@pytest.mark.parametrize("option", ["in_channels", "width", "halvings"])
def test_options_out_of_range_are_refused(option: str) -> None:
    with pytest.raises(OptionError, match=f"^Expected {option} to be an integer >= 1, but got 0"):
        PatchDiscriminator(**{option: 0})


def test_images_too_small_to_halve_are_refused() -> None:
    with pytest.raises(ShapeError) as caught:
        PatchDiscriminator()(torch.rand(2, 3, 8, 7))
    assert caught.value.text == (
        "Expected images of at least 8x8 pixels, but got 8x7. "
        "Enlarge the images, or create the discriminator with fewer halvings."
    )
