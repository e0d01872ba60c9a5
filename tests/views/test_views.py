"""Tests of all views: draws are per image and depend on the generator only; dtype, layout and input are kept."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Generator, Tensor

from pretextkit import views
from pretextkit.errors import ShapeError
from pretextkit.views._random import select
from tests.helpers import generator, random_images

View = Callable[[Tensor, Generator], Tensor]


def cut(images: Tensor, _: Generator) -> Tensor:
    corners = torch.arange(len(images)) % 3
    return views.cut_patches(images, corners, corners + 1, 5)


def hide(images: Tensor, _: Generator) -> Tensor:
    mask = torch.zeros_like(images[:, :1], dtype=torch.bool)
    mask[..., 3:6, 2:9] = True
    return views.hide_pixels(images, mask)


def rotate(images: Tensor, _: Generator) -> Tensor:
    return views.rotate90(images, torch.arange(len(images)))


RANDOM: dict[str, View] = {
    "color_jitter": lambda images, g: views.color_jitter(images, generator=g),
    "drop_colors": lambda images, g: views.drop_colors(images, 0.7, generator=g),
    "random_grayscale": lambda images, g: views.random_grayscale(images, 0.5, generator=g),
    "random_horizontal_flip": lambda images, g: views.random_horizontal_flip(images, generator=g),
    "random_resized_crop": lambda images, g: views.random_resized_crop(images, generator=g),
}
FIXED: dict[str, View] = {
    "all_rotations": lambda images, _: views.all_rotations(images),
    "cut_patches": cut,
    "hide_pixels": hide,
    "rotate90": rotate,
    "standardize_patches": lambda images, _: views.standardize_patches(images),
    "to_grayscale": lambda images, _: views.to_grayscale(images),
}
MASKS = {"mask_blocks", "mask_center", "mask_patches"}
"""Views that return masks; tests/views/test_mask.py has their tests."""
every_random_view = pytest.mark.parametrize("view", RANDOM.values(), ids=list(RANDOM))
every_view = pytest.mark.parametrize("view", (RANDOM | FIXED).values(), ids=list(RANDOM | FIXED))


def some_images(n: int = 6, channels: int = 3) -> Tensor:
    return random_images(n, channels=channels, seed=99)


def test_every_public_view_is_in_the_tables() -> None:
    elsewhere = {
        "Augmentation",
        "CropAndRecolor",
        "LightAugmentation",
        "StrongAugmentation",
    }  # classes, under other names
    assert set(views.__all__) == set(RANDOM | FIXED) | MASKS | elsewhere


@every_random_view
def test_views_depend_on_the_seed_and_advance_the_generator(view: View) -> None:
    images, draws = some_images(32), generator(1)
    first, second = view(images, draws), view(images, draws)
    assert torch.equal(view(images, generator(1)), first)
    assert not torch.equal(first, second)
    assert not torch.equal(view(images, generator(2)), first)


@every_random_view
def test_equal_images_get_different_views(view: View) -> None:
    assert len(torch.unique(view(some_images(1).expand(32, -1, -1, -1), generator()), dim=0)) > 1


@every_random_view
def test_number_of_draws_does_not_depend_on_the_pixels(view: View) -> None:
    """Otherwise an image could change the draws of the next batch."""
    one, other = generator(3), generator(3)
    view(some_images(), one)
    view(torch.zeros(6, 1, 7, 9), other)
    assert torch.equal(one.get_state(), other.get_state())


@every_view
def test_input_is_not_modified(view: View) -> None:
    images = some_images()
    before = images.clone()
    view(images, generator()).zero_()  # the result must not share memory with the input
    assert torch.equal(images, before)


@every_view
def test_views_do_not_mix_images(view: View) -> None:
    images = some_images()
    expected, other = view(images, generator()), images.clone()
    other[2] = 1 - other[2]
    copies = len(expected) // len(images)
    changed = (view(other, generator()) != expected).flatten(1).any(1).view(copies, -1)
    assert not changed[:, [0, 1, 3, 4, 5]].any()
    assert changed[:, 2].all()


@every_view
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-6), (torch.float16, 5e-3), (torch.bfloat16, 4e-2)], ids=str
)
def test_dtype_is_kept(view: View, dtype: torch.dtype, tolerance: float) -> None:
    result = view(some_images().to(dtype), generator())
    assert result.dtype == dtype
    torch.testing.assert_close(result.float(), view(some_images(), generator()), atol=tolerance, rtol=0)


@every_view
def test_memory_layout_does_not_matter(view: View) -> None:
    images = some_images()
    expected = view(images, generator())
    transposed = images.mT.contiguous().mT
    strided = torch.stack([images, -images], 4)[..., 0]
    for twin in (images.contiguous(memory_format=torch.channels_last), transposed, strided):
        torch.testing.assert_close(view(twin, generator()), expected, atol=1e-6, rtol=0)


@every_view
def test_gray_images_stay_gray(view: View) -> None:
    gray = some_images(channels=1)
    result = view(gray, generator())
    assert result.shape[1] == 1
    color = view(gray.expand(-1, 3, -1, -1), generator())
    torch.testing.assert_close(color, result.expand(-1, color.shape[1], -1, -1), atol=1e-5, rtol=0)


@every_view
def test_views_are_differentiable(view: View) -> None:
    """Adversarial and learned views need the gradient."""
    images = some_images().requires_grad_()
    (gradient,) = torch.autograd.grad(view(images, generator()).square().sum(), images)
    assert gradient.isfinite().all()
    assert gradient.any()


@every_view
def test_empty_batch_gives_an_empty_batch(view: View) -> None:
    assert len(view(some_images()[:0], generator())) == 0


@every_view
def test_single_image_without_batch_axis_is_refused(view: View) -> None:
    with pytest.raises(ShapeError, match=r"but got shape \(3, 12, 12\)\. "):
        partial(view, some_images()[0])(generator())


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_select_is_exact_for_all_images(dtype: torch.dtype) -> None:
    images = (200 * torch.rand(6, 3, 5, 5, generator=Generator().manual_seed(0))).to(dtype)
    changed = (100 * torch.rand(6, 1, 5, 5, generator=Generator().manual_seed(1))).to(dtype)
    chosen = torch.tensor([True, False, True, True, False, False])
    found = select(chosen, changed, images)
    assert found.dtype == dtype
    assert torch.equal(found, torch.where(chosen[:, None, None, None], changed, images))
