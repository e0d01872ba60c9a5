from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pretextkit.errors import OptionError, ShapeError
from pretextkit.views import LightAugmentation, color_jitter, random_horizontal_flip, random_resized_crop
from tests.helpers import generator, random_images


@given(
    st.integers(1, 5),
    st.sampled_from([1, 3]),
    st.integers(1, 30),
    st.integers(1, 30),
    st.floats(0.05, 1),
    st.floats(0, 2.5),
    st.floats(0, 1),
)
def test_any_images_keep_shape_and_range(
    n: int, c: int, h: int, w: int, low: float, jitter: float, flip: float
) -> None:
    images = torch.rand(n, c, h, w, generator=generator())
    before = images.clone()
    made = LightAugmentation((low, 1.0), jitter, flip)(images, generator())
    assert made.shape == images.shape
    assert -1e-6 <= made.min() <= made.max() <= 1 + 1e-6
    assert torch.equal(images, before)


def test_default_is_crop_then_jitter() -> None:
    images, draws = random_images(6), generator(1)
    crops = random_resized_crop(images, scale=(0.5, 1.0), generator=draws)
    jittered = color_jitter(crops, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, generator=draws)
    assert torch.equal(LightAugmentation()(images, generator(1)), jittered)


def test_flip_comes_last() -> None:
    images, draws = random_images(6), generator(1)
    plain = LightAugmentation()(images, draws)
    flipped = random_horizontal_flip(plain, 0.5, generator=draws)
    assert torch.equal(LightAugmentation(flip=0.5)(images, generator(1)), flipped)


def test_everything_off_changes_nothing() -> None:
    images = random_images(6)
    assert torch.equal(LightAugmentation((1.0, 1.0), jitter=0.0)(images, generator()), images)


def test_gray_images_change_in_brightness_and_contrast_only() -> None:
    """A gray image stays an affine function of itself."""
    images = random_images(6, channels=1)
    made = LightAugmentation((1.0, 1.0))(0.4 + 0.2 * images, generator())
    for old, new in zip(images.flatten(1), made.flatten(1), strict=True):
        assert torch.corrcoef(torch.stack((old, new)))[0, 1] > 0.999


def test_equal_images_are_augmented_differently() -> None:
    made = LightAugmentation()(random_images(1).expand(8, -1, -1, -1), generator())
    assert len(torch.unique(made, dim=0)) == 8


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        ({"crop_scale": (0.8, 0.2)}, "crop_scale to be an ordered pair"),
        ({"crop_scale": (0.0, 1.0)}, "crop_scale to be a number in (0, 1]"),
        ({"jitter": -1.0}, "jitter to be a number in [0, 2.5]"),
        ({"jitter": math.nan}, "jitter to be a number in [0, 2.5]"),
        ({"flip": 2.0}, "flip to be a number in [0, 1]"),
    ],
)
def test_numbers_out_of_range_are_refused(wrong: dict[str, Any], name: str) -> None:
    with pytest.raises(OptionError) as caught:
        LightAugmentation(**wrong)(random_images(2), generator())
    assert f"Expected {name}" in str(caught.value)


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ShapeError):
        LightAugmentation()(random_images(1)[0], generator())
