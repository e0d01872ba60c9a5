from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torchvision.transforms import functional as torchvision

from pretextkit.errors import OptionError, ShapeError
from pretextkit.views import color_jitter, random_grayscale, to_grayscale
from tests.helpers import generator, random_images

ROUNDING = 3e-4
"""Tolerance: the luma weight of red is 0.2989 in torchvision and 0.299 here."""
OTHERS = ("brightness", "contrast", "saturation", "hue")


def some_images(n: int = 4, low: float = 0.0, high: float = 1.0) -> Tensor:
    return low + (high - low) * random_images(n, size=(6, 7), seed=99)


def jitter(images: Tensor, *, p: float = 1.0, **strengths: float) -> Tensor:
    """Jitter by the given strengths only."""
    return color_jitter(images, **{**dict.fromkeys(OTHERS, 0.0), **strengths}, p=p, generator=generator())


ADJUST: dict[str, Callable[[Tensor, float], Tensor]] = {
    "brightness": torchvision.adjust_brightness,
    "contrast": torchvision.adjust_contrast,
    "saturation": torchvision.adjust_saturation,
}
each_property = pytest.mark.parametrize("name", ADJUST)


@each_property
@pytest.mark.parametrize("strength", [0.3, 0.8, 1.5])
def test_single_property_matches_torchvision(
    name: str, strength: float, extreme_factor: Callable[[float], float]
) -> None:
    images = some_images()
    expected = torch.stack([ADJUST[name](image, extreme_factor(strength)) for image in images])
    torch.testing.assert_close(jitter(images, **{name: strength}), expected, atol=ROUNDING, rtol=0)


def test_properties_change_in_the_documented_order(extreme_factor: Callable[[float], float]) -> None:
    images = some_images(low=0.4, high=0.6)  # far from black and white: no step clamps
    strengths = {"brightness": 0.1, "contrast": 0.4, "saturation": 0.6}
    turned = jitter(torchvision.adjust_saturation(images, extreme_factor(0.6)), hue=0.15)
    contrasted = torch.stack([torchvision.adjust_contrast(image, extreme_factor(0.4)) for image in turned])
    expected = torchvision.adjust_brightness(contrasted, extreme_factor(0.1))
    torch.testing.assert_close(jitter(images, **strengths, hue=0.15), expected, atol=ROUNDING, rtol=0)


def chroma(pixel: Tensor) -> complex:
    """Compute I and Q of YIQ by the formulas of the 1953 standard."""
    r, g, b = pixel.tolist()
    luma = 0.299 * r + 0.587 * g + 0.114 * b
    return complex(0.7355 * (r - luma) - 0.2684 * (b - luma), 0.4778 * (r - luma) + 0.4133 * (b - luma))


@pytest.mark.parametrize("hue", [0.05, 0.25, 0.5])
def test_hue_rotates_chroma_and_keeps_luma(hue: float, extreme_factor: Callable[[float], float]) -> None:
    images = some_images(low=0.4, high=0.6)
    turned = jitter(images, hue=hue)
    torch.testing.assert_close(to_grayscale(turned), to_grayscale(images), atol=1e-5, rtol=0)
    for before, after in zip(images[0].flatten(1).T, turned[0].flatten(1).T, strict=True):
        turn = chroma(after) / chroma(before)
        assert abs(turn) == pytest.approx(1, abs=0.02)
        assert turn.real == pytest.approx(torch.tensor(2 * torch.pi * hue).cos().item(), abs=0.02)
        assert abs(turn.imag) == pytest.approx(torch.tensor(2 * torch.pi * hue).sin().abs().item(), abs=0.02)


def test_hue_rotations_fill_both_directions() -> None:
    image = some_images(1, low=0.4, high=0.6)
    views = jitter(image.expand(200, -1, -1, -1), hue=0.1)
    turns = torch.tensor([(chroma(view[:, 0, 0]) / chroma(image[0, :, 0, 0])).imag for view in views])
    limit = torch.tensor(0.2 * torch.pi).sin().item()
    assert turns.min() == pytest.approx(-limit, abs=0.04)
    assert turns.max() == pytest.approx(limit, abs=0.04)
    assert abs(turns.mean()) < 0.1


@pytest.mark.usefixtures("extreme_factor")
def test_two_half_turns_of_hue_give_the_original() -> None:
    images = some_images(low=0.3, high=0.7)
    half = jitter(images, hue=0.5)
    torch.testing.assert_close(half, 2 * to_grayscale(images) - images, atol=1e-5, rtol=0)
    torch.testing.assert_close(jitter(half, hue=0.5), images, atol=1e-5, rtol=0)


@each_property
def test_factors_fill_their_range_across_images(name: str) -> None:
    image = some_images(1, low=0.3, high=0.6)
    views = jitter(image.expand(500, -1, -1, -1), **{name: 0.4})
    if name == "brightness":
        factors = views[:, 0, 0, 0] / image[0, 0, 0, 0]
    elif name == "contrast":
        factors = (views[:, 0, 0, 0] - views[:, 0, 1, 1]) / (image[0, 0, 0, 0] - image[0, 0, 1, 1])
    else:
        factors = (views[:, 0, 0, 0] - views[:, 1, 0, 0]) / (image[0, 0, 0, 0] - image[0, 1, 0, 0])
    assert factors.min() == pytest.approx(0.6, abs=0.01)
    assert factors.max() == pytest.approx(1.4, abs=0.01)
    assert factors.mean() == pytest.approx(1, abs=0.04)


def test_properties_are_drawn_independently() -> None:
    image = some_images(1, low=0.35, high=0.65)
    views = jitter(image.expand(500, -1, -1, -1), brightness=0.3, contrast=0.3)
    bright = to_grayscale(views).mean((1, 2, 3)) / to_grayscale(image).mean()
    contrast = (views[:, 0, 0, 0] - views[:, 0, 1, 1]) / (image[0, 0, 0, 0] - image[0, 0, 1, 1]) / bright
    assert abs(torch.corrcoef(torch.stack([bright, contrast]))[0, 1]) < 0.15


def test_strong_jitter_has_no_negative_factor() -> None:
    views = jitter(some_images(1).expand(200, -1, -1, -1), brightness=3.0)
    assert views.flatten(1).any(1).all()  # a negative factor would be clamped to black


@pytest.mark.parametrize("p", [0.0, 0.3, 0.8, 1.0])
def test_color_jitter_changes_a_fraction_p_of_the_images(p: float) -> None:
    images = some_images(1000)
    changed = (color_jitter(images, p=p, generator=generator()) != images).flatten(1).any(1).float().mean().item()
    assert changed == p if p in (0, 1) else abs(changed - p) < 0.06


def test_unchanged_images_are_not_clamped() -> None:
    images = 3 * some_images()
    assert torch.equal(jitter(images, p=0, brightness=0.4), images)
    assert jitter(images, brightness=0.4).max() == 1


def test_zero_strength_is_the_identity() -> None:
    torch.testing.assert_close(jitter(some_images()), some_images(), atol=1e-6, rtol=0)


def test_gray_images_stay_gray_under_color_jitter() -> None:
    gray = some_images()[:, :1]
    as_color = jitter(gray.expand(-1, 3, -1, -1), brightness=0.3, contrast=0.3, saturation=0.9, hue=0.5)
    torch.testing.assert_close(as_color[:, :1], as_color[:, 2:], atol=1e-5, rtol=0)
    as_gray = jitter(gray, brightness=0.3, contrast=0.3, saturation=0.9, hue=0.5)
    torch.testing.assert_close(as_color[:, :1], as_gray, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "strengths", [{"brightness": -0.1}, {"contrast": -1.0}, {"saturation": -1.0}, {"hue": -0.1}, {"hue": 0.6}]
)
def test_strengths_out_of_range_are_refused(strengths: dict[str, float]) -> None:
    ((name, value),) = strengths.items()
    with pytest.raises(OptionError) as caught:
        jitter(some_images(), **strengths)
    assert caught.value.text == (
        f"Expected {name} to be a number in [0, {0.5 if name == 'hue' else 100}], but got {value}. "
        "0 leaves that property unchanged."
    )


def test_luma_matches_torchvision() -> None:
    images = some_images()
    torch.testing.assert_close(to_grayscale(images), torchvision.rgb_to_grayscale(images), atol=ROUNDING, rtol=0)
    assert to_grayscale(images[:, :1]).equal(images[:, :1])


@pytest.mark.parametrize("channels", [2, 4])
def test_two_or_four_channels_have_no_luma(channels: int) -> None:
    fix = {
        2: "If they are gray with an alpha channel, drop it: images[:, :1].",
        4: "If they are RGBA, drop the alpha channel: images[:, :3].",
    }[channels]
    text = f"Expected images of 1 or 3 channels, but got {channels}. {fix}"
    images = torch.zeros(2, channels, 4, 4)
    with pytest.raises(ShapeError) as caught:
        to_grayscale(images)
    assert str(caught.value).startswith(text)


@pytest.mark.parametrize("p", [0.0, 0.2, 1.0])
def test_random_grayscale_converts_a_fraction_p_of_images(p: float) -> None:
    images = some_images(1500)
    result = random_grayscale(images, p, generator=generator())
    gray = torchvision.rgb_to_grayscale(images, num_output_channels=3)
    is_gray = ((result - gray).abs() < ROUNDING).flatten(1).all(1)
    is_same = (result == images).flatten(1).all(1)
    assert (is_gray != is_same).all()
    rate = is_gray.float().mean().item()
    assert rate == p if p in (0, 1) else abs(rate - p) < 0.05
