"""Views of arbitrary input: the documented result or a pretextkit error, and an unchanged input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator, Tensor

from pretextkit import views
from pretextkit.errors import PretextkitError

from .strategies import LAYOUTS, answer, any_tensors, images, laid_out, seeds

View = Callable[[Tensor, Generator], Tensor]


def turns(x: Tensor, g: Generator) -> Tensor:
    return torch.randint(-9, 9, x.shape[:1], generator=g)


def corner(x: Tensor, g: Generator) -> Tensor:
    return torch.randint(0, 2, x.shape[:1], generator=g)


VIEWS: dict[str, View] = {
    "CropAndRecolor": lambda x, g: views.CropAndRecolor(flip=0.5)(x, g),
    "CropAndRecolor of half the sides": lambda x, g: views.CropAndRecolor(side=0.5)(x, g),
    "LightAugmentation": lambda x, g: views.LightAugmentation(flip=0.5)(x, g),
    "StrongAugmentation": lambda x, g: views.StrongAugmentation()(x, g),
    "all_rotations": lambda x, g: views.all_rotations(x),
    "color_jitter": lambda x, g: views.color_jitter(x, generator=g),
    "cut_patches": lambda x, g: views.cut_patches(x, corner(x, g), corner(x, g), 2),
    "drop_colors": lambda x, g: views.drop_colors(x, 0.5, generator=g),
    "hide_pixels": lambda x, g: views.hide_pixels(x, torch.rand(len(x), 1, *x.shape[2:], generator=g) < 0.5),
    "mask_blocks": lambda x, g: views.mask_blocks(x, generator=g),
    "mask_center": lambda x, g: views.mask_center(x),
    "mask_patches": lambda x, g: views.mask_patches(x, patch=2, generator=g),
    "random_grayscale": lambda x, g: views.random_grayscale(x, 0.5, generator=g),
    "random_horizontal_flip": lambda x, g: views.random_horizontal_flip(x, generator=g),
    "random_resized_crop": lambda x, g: views.random_resized_crop(x, generator=g),
    "random_resized_crop to 3x5": lambda x, g: views.random_resized_crop(x, (3, 5), generator=g),
    "rotate90": lambda x, g: views.rotate90(x, turns(x, g)),
    "standardize_patches": lambda x, g: views.standardize_patches(x),
    "to_grayscale": lambda x, g: views.to_grayscale(x),
}


def shape(name: str, x: Tensor) -> tuple[int, ...]:
    """Return the documented shape of the result."""
    b, c, h, w = x.shape
    if name.startswith("mask_") or name == "to_grayscale":
        return (b, 1, h, w)
    special = {
        "CropAndRecolor of half the sides": (b, c, max(1, round(h / 2)), max(1, round(w / 2))),
        "all_rotations": (4 * b, c, h, w),
        "cut_patches": (b, c, 2, 2),
        "random_resized_crop to 3x5": (b, c, 3, 5),
    }
    return special.get(name, (b, c, h, w))


def test_every_public_view_is_tested() -> None:
    assert {name.split()[0] for name in VIEWS} == set(views.__all__) - {"Augmentation"}  # a protocol


@pytest.mark.parametrize("name", VIEWS)
@given(x=any_tensors(), seed=seeds)
def test_view_gives_documented_shape_or_error(name: str, x: Tensor, seed: int) -> None:
    generator = Generator().manual_seed(seed)
    if x.ndim != 4 and name in ("cut_patches", "hide_pixels", "rotate90"):
        generator_of = {"cut_patches": lambda: views.cut_patches(x, torch.zeros(1).long(), torch.zeros(1).long(), 2)}
        generator_of["hide_pixels"] = lambda: views.hide_pixels(x, torch.zeros(1, 1, 1, 1, dtype=torch.bool))
        generator_of["rotate90"] = lambda: views.rotate90(x, torch.zeros(1).long())
        assert answer(generator_of[name]) is None
        return
    before = x.detach().clone()
    result = answer(VIEWS[name], x, generator)
    assert torch.equal(x.detach().nan_to_num(-7), before.nan_to_num(-7)) if not x.is_complex() else True
    if result is not None:
        assert x.ndim == 4
        assert x.numel() or len(x) == 0
        assert not x.is_complex()
        assert result.shape == shape(name, x)
        assert result.dtype == (torch.bool if name.startswith("mask_") else x.dtype)


@given(
    name=st.sampled_from(sorted(VIEWS)), x=images(smallest=4, square=True), seed=seeds, layout=st.sampled_from(LAYOUTS)
)
def test_views_agree_across_memory_layouts(name: str, x: Tensor, seed: int, layout: str) -> None:
    plain = x.detach().contiguous().clone()
    expected = VIEWS[name](plain, Generator().manual_seed(seed))
    result = VIEWS[name](x, Generator().manual_seed(seed))
    torch.testing.assert_close(result.detach(), expected)
    assert result.shape == shape(name, x)
    if result.dtype != torch.bool and result.numel():
        assert result.isfinite().all()
        assert result.min() >= -1e-6
        assert result.max() <= 1 + 1e-5
    if len(plain) and layout != "expanded":
        again = VIEWS[name](laid_out(plain, layout), Generator().manual_seed(seed))
        torch.testing.assert_close(again.detach(), expected)


numbers = st.one_of(st.floats(allow_nan=True, allow_infinity=True), st.integers(-3, 70))

OPTIONS: dict[str, Callable[..., Tensor]] = {
    "brightness": lambda x, g, a, b: views.color_jitter(x, brightness=a, p=1.0, generator=g),
    "contrast": lambda x, g, a, b: views.color_jitter(x, contrast=a, p=1.0, generator=g),
    "saturation": lambda x, g, a, b: views.color_jitter(x, saturation=a, p=1.0, generator=g),
    "hue": lambda x, g, a, b: views.color_jitter(x, hue=a, p=1.0, generator=g),
    "p": lambda x, g, a, b: views.random_grayscale(x, a, generator=g),
    "scale": lambda x, g, a, b: views.random_resized_crop(x, scale=(a, b), generator=g),
    "ratio": lambda x, g, a, b: views.random_resized_crop(x, ratio=(a, b), generator=g),
    "side": lambda x, g, a, b: views.mask_center(x, a),
    "side of blocks": lambda x, g, a, b: views.mask_blocks(x, side=a, generator=g),
    "fraction": lambda x, g, a, b: views.mask_patches(x, fraction=a, generator=g),
}
IMAGE_VIEWS: dict[str, Callable[..., Tensor]] = {
    "size": lambda x, g, a: views.random_resized_crop(x, a, generator=g),
    "count": lambda x, g, a: views.mask_blocks(x, count=a, generator=g),
    "patch": lambda x, g, a: views.mask_patches(x, patch=a, generator=g),
    "size of patches": lambda x, g, a: views.cut_patches(x, corner(x, g), corner(x, g), a),
}


@given(name=st.sampled_from(sorted(OPTIONS)), x=images(smallest=6, square=True), seed=seeds, a=numbers, b=numbers)
def test_view_options_give_finite_pixels_or_error(name: str, x: Tensor, seed: int, a: Any, b: Any) -> None:
    result = answer(OPTIONS[name], x, Generator().manual_seed(seed), a, b)
    if result is not None:
        assert result.shape[-2:] == x.shape[-2:]
        assert result.isfinite().all()
        if result.numel():
            assert result.min() >= -1e-6
            assert result.max() <= 1 + 1e-5


@given(name=st.sampled_from(sorted(IMAGE_VIEWS)), x=images(smallest=6, square=True), seed=seeds, a=st.integers(-3, 70))
def test_integer_options_give_result_or_error(name: str, x: Tensor, seed: int, a: int) -> None:
    result = answer(IMAGE_VIEWS[name], x, Generator().manual_seed(seed), a)
    assert result is None or a >= 1
    if result is not None and "size" in name:
        assert result.shape[2:] == (a, a)


@given(x=images(square=True), turns=any_tensors(4))
def test_rotate_any_turns_give_images_or_error(x: Tensor, turns: Tensor) -> None:
    result = answer(views.rotate90, x, turns)
    if result is not None:
        assert turns.shape == (len(x),)
        quarters = [int(turn) % 4 for turn in turns]
        twin = [torch.rot90(image, k, (1, 2)) for image, k in zip(x, quarters, strict=True)]
        assert torch.equal(result, torch.stack(twin) if twin else x)


@given(x=images(smallest=3), top=any_tensors(4), left=any_tensors(4), size=st.integers(-1, 5))
def test_cut_patches_any_corners_give_patches_or_error(x: Tensor, top: Tensor, left: Tensor, size: int) -> None:
    result = answer(views.cut_patches, x, top, left, size)
    if result is not None:
        places = zip(x, top.tolist(), left.tolist(), strict=True)
        twin = [image[:, int(t) : int(t) + size, int(s) : int(s) + size] for image, t, s in places]
        assert result.shape == (len(x), x.shape[1], size, size)
        assert torch.equal(result, torch.stack(twin) if twin else result)


@given(x=images(smallest=2), mask=any_tensors())
def test_cut_out_any_mask_gives_images_or_error(x: Tensor, mask: Tensor) -> None:
    result = answer(views.hide_pixels, x, mask)
    if result is not None:
        assert mask.shape == (len(x), 1, *x.shape[2:])
        assert torch.equal(result[~mask.expand_as(x)], x[~mask.expand_as(x)])


def test_every_failure_is_a_pretextkit_error() -> None:
    with pytest.raises(PretextkitError, match="float images"):
        views.to_grayscale(torch.zeros(1, 3, 2, 2, dtype=torch.uint8))
