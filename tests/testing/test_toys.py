from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pretextkit.testing import TinyBackbone, noise_images, toy_images
from tests.helpers import generator


@settings(max_examples=25, deadline=None)
@given(n=st.integers(1, 4), h=st.integers(1, 40), w=st.integers(1, 40), channels=st.sampled_from([1, 3]))
def test_images_have_requested_shape_and_unit_range(n: int, h: int, w: int, channels: int) -> None:
    for draw in (toy_images, noise_images):
        images = draw(n, size=(h, w), channels=channels, generator=generator())
        assert images.shape == (n, channels, h, w)
        assert images.dtype == torch.float32
        assert images.min() >= 0
        assert images.max() <= 1


@pytest.mark.parametrize("draw", [toy_images, noise_images])
def test_images_depend_on_the_generator_only(draw: Callable[..., torch.Tensor]) -> None:
    state = torch.get_rng_state()
    one, two, other = (draw(4, generator=generator(seed)) for seed in (0, 0, 1))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert torch.equal(state, torch.get_rng_state())


def test_toy_images_are_bright_at_top_and_center() -> None:
    images = toy_images(256, generator=generator()).mean((0, 1))
    assert images[:8].mean() > images[-8:].mean() + 0.2
    assert images[12:20, 12:20].mean() > images[12:20, :4].mean() + 0.05
    assert images[12:20, 12:20].mean() > images[12:20, -4:].mean() + 0.05


def test_noise_images_have_uncorrelated_pixels() -> None:
    images = noise_images(4096, size=8, channels=1, generator=generator()).flatten(1)
    correlation = torch.corrcoef(images.T) - torch.eye(64)
    assert correlation.abs().max() < 5 / 64
    assert (images.mean(0) - 0.5).abs().max() < 0.03


def test_tiny_backbone_has_under_25000_parameters() -> None:
    assert sum(parameter.numel() for parameter in TinyBackbone().parameters()) < 25_000
