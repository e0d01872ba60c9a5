from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor

from pretextkit.errors import OptionError, ShapeError
from pretextkit.views import hide_pixels, mask_blocks, mask_center, mask_patches
from tests.helpers import generator

Mask = Callable[[Tensor, Generator], Tensor]


def blank(n: int = 1, height: int = 12, width: int = 12, channels: int = 3) -> Tensor:
    return torch.zeros(n, channels, height, width)


RANDOM: dict[str, Mask] = {
    "mask_blocks": lambda images, g: mask_blocks(images, generator=g),
    "mask_patches": lambda images, g: mask_patches(images, generator=g),
    "pixels": lambda images, g: mask_patches(images, fraction=0.3, patch=1, generator=g),
}
MASKS: dict[str, Mask] = {"mask_center": lambda images, _: mask_center(images)} | RANDOM
every_mask = pytest.mark.parametrize("mask", MASKS.values(), ids=list(MASKS))
every_random_mask = pytest.mark.parametrize("mask", RANDOM.values(), ids=list(RANDOM))


@every_mask
@pytest.mark.parametrize(("height", "width"), [(12, 12), (9, 14), (28, 28)])
def test_masks_are_bool_and_hide_some_but_not_all_pixels(mask: Mask, height: int, width: int) -> None:
    marked = mask(blank(5, height, width), generator())
    assert marked.dtype == torch.bool
    assert marked.shape == (5, 1, height, width)
    shares = marked.float().mean((1, 2, 3))
    assert shares.min() > 0
    assert shares.max() < 1


@every_random_mask
def test_masks_differ_per_image_and_follow_the_generator(mask: Mask) -> None:
    draws = generator(1)
    first, second = mask(blank(16), draws), mask(blank(16), draws)
    assert len(torch.unique(first, dim=0)) > 8
    assert torch.equal(mask(blank(16), generator(1)), first)
    assert not torch.equal(first, second)


@every_mask
def test_masks_do_not_depend_on_pixels(mask: Mask) -> None:
    one, other = generator(2), generator(2)
    images = torch.rand(3, 1, 12, 12, generator=generator(3))
    assert torch.equal(mask(images, one), mask(blank(3), other))
    assert torch.equal(one.get_state(), other.get_state())


@every_mask
def test_masks_accept_empty_batches_and_refuse_single_images(mask: Mask) -> None:
    assert mask(blank(0), generator()).shape == (0, 1, 12, 12)
    with pytest.raises(ShapeError, match=r"^Expected images b c h w, but got shape \(3, 12, 12\)\. "):
        mask(blank()[0], generator())


@pytest.mark.parametrize(
    ("height", "width", "side", "rows", "columns"),
    [
        (64, 64, 0.5, range(16, 48), range(16, 48)),
        (28, 32, 0.5, range(7, 21), range(8, 24)),
        (5, 4, 0.1, range(2, 3), range(1, 2)),
        (3, 8, 0.99, range(0, 2), range(0, 7)),
    ],
)
def test_center_block_lies_in_the_center(height: int, width: int, side: float, rows: range, columns: range) -> None:
    marked = {tuple(place) for place in mask_center(blank(2, height, width), side)[1, 0].nonzero().tolist()}
    assert marked == {(row, column) for row in rows for column in columns}


@settings(deadline=None)
@given(st.integers(2, 20), st.integers(2, 20), st.floats(0.05, 0.95))
def test_one_block_is_a_rectangle_of_the_given_size(height: int, width: int, side: float) -> None:
    for marked in mask_blocks(blank(6, height, width), count=1, side=side, generator=generator())[:, 0]:
        rows, columns = (marked.any(1 - axis).nonzero().flatten().tolist() for axis in (0, 1))
        assert len(rows) == min(max(round(side * height), 1), height - 1)
        assert len(columns) == min(max(round(side * width), 1), width - 1)
        assert marked.sum() == len(rows) * len(columns)
        assert marked[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()


def test_blocks_equal_a_loop_over_their_draws() -> None:
    draws, expected = generator(7), torch.zeros(10, 1, 20, 16, dtype=torch.bool)
    marked = mask_blocks(blank(10, 20, 16), count=3, side=0.25, generator=generator(7))
    for _ in range(3):
        tops = torch.randint(20 - 5 + 1, (10,), generator=draws).tolist()
        lefts = torch.randint(16 - 4 + 1, (10,), generator=draws).tolist()
        for mask, top, left in zip(expected, tops, lefts, strict=True):
            mask[0, top : top + 5, left : left + 4] = True
    assert torch.equal(marked, expected)


def test_blocks_reach_every_edge() -> None:
    marked = mask_blocks(blank(400), count=1, side=0.25, generator=generator())[:, 0]
    ever = marked.any(0)
    assert ever.all()


@settings(deadline=None)
@given(st.integers(1, 15), st.integers(1, 15), st.integers(1, 6), st.floats(0.01, 0.99))
def test_masked_patches_are_complete_grid_patches(height: int, width: int, patch: int, fraction: float) -> None:
    rows, columns = -(-height // patch), -(-width // patch)
    if rows * columns < 2:
        with pytest.raises(ShapeError):
            mask_patches(blank(4, height, width), fraction=fraction, patch=patch, generator=generator())
        return
    for marked in mask_patches(blank(4, height, width), fraction=fraction, patch=patch, generator=generator())[:, 0]:
        patches = [
            marked[patch * i : patch * i + patch, patch * k : patch * k + patch]
            for i in range(rows)
            for k in range(columns)
        ]
        assert all(bool(each.all()) == bool(each.any()) for each in patches)
        assert sum(bool(each.any()) for each in patches) == min(
            max(round(fraction * len(patches)), 1), len(patches) - 1
        )


def test_patches_are_masked_equally_often() -> None:
    marked = mask_patches(blank(2000, 8, 8), fraction=0.25, patch=2, generator=generator())
    assert (marked.float().mean(0) - 0.25).abs().max() < 0.05


@settings(deadline=None)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 5), st.integers(1, 5), st.integers(0, 9))
def test_hiding_equals_a_loop(n: int, channels: int, height: int, width: int, seed: int) -> None:
    draws = generator(seed)
    images = torch.rand(n, channels, height, width, generator=draws)
    mask = torch.rand(n, 1, height, width, generator=draws) < 0.5
    hidden = hide_pixels(images, mask)
    for b in range(n):
        for c in range(channels):
            visible = [float(v) for v, m in zip(images[b, c].flatten(), mask[b, 0].flatten(), strict=True) if not m]
            mean = sum(visible) / max(len(visible), 1)
            wanted = torch.where(mask[b, 0], torch.tensor(mean), images[b, c])
            torch.testing.assert_close(hidden[b, c], wanted, atol=1e-6, rtol=0)


def test_hidden_pixels_do_not_affect_the_result() -> None:
    images = torch.rand(4, 3, 12, 12, generator=generator())
    mask = mask_patches(images, generator=generator(1))
    other = torch.where(mask, torch.rand(4, 3, 12, 12, generator=generator(2)), images)
    assert torch.equal(hide_pixels(images, mask), hide_pixels(other, mask))


@pytest.mark.parametrize("side", [0, 1, -0.5, float("nan")])
def test_blocks_out_of_range_are_refused(side: float) -> None:
    for mask in (mask_center, partial(mask_blocks, generator=generator())):
        with pytest.raises(OptionError) as caught:
            mask(blank(), side=side)
        assert caught.value.text == (
            f"Expected side to be a number in (0, 1), but got {side}. "
            "It is a fraction of the image, for example side=0.5."
        )


def test_count_below_one_is_refused() -> None:
    with pytest.raises(OptionError) as caught:
        mask_blocks(blank(), count=0, generator=generator())
    assert caught.value.text == "Expected count to be an integer >= 1, but got 0. For example count=4."


@pytest.mark.parametrize(("fraction", "patch"), [(0, 4), (1, 4), (float("nan"), 4), (0.5, 0)])
def test_patches_out_of_range_are_refused(fraction: float, patch: int) -> None:
    with pytest.raises(OptionError) as caught:
        mask_patches(blank(), fraction=fraction, patch=patch, generator=generator())
    assert caught.value.text == (
        f"Expected fraction to be a number in (0, 1), but got {fraction}. For example fraction=0.5."
        if patch
        else "Expected patch to be an integer >= 1, but got 0. For example patch=4."
    )


def test_images_without_room_for_a_mask_are_refused() -> None:
    with pytest.raises(ShapeError) as caught:
        mask_patches(blank(1, 4, 3), generator=generator())
    assert caught.value.text == (
        "Expected images larger than one patch of 4 pixels, but got 4x3. Choose smaller patches, or enlarge the images."
    )
    with pytest.raises(ShapeError) as caught:
        mask_center(blank(1, 1, 8))
    assert caught.value.text == "Expected images of at least 2x2 pixels, but got 1x8. Enlarge the images."


@pytest.mark.parametrize(
    ("mask", "got"),
    [
        (torch.zeros(2, 1, 12, 12), "float32 of shape (2, 1, 12, 12)"),
        (torch.zeros(2, 12, 12, dtype=torch.bool), "bool of shape (2, 12, 12)"),
        (torch.zeros(2, 3, 12, 12, dtype=torch.bool), "bool of shape (2, 3, 12, 12)"),
        (torch.zeros(1, 1, 12, 12, dtype=torch.bool), "bool of shape (1, 1, 12, 12)"),
    ],
)
def test_malformed_masks_are_refused(mask: Tensor, got: str) -> None:
    with pytest.raises(ShapeError) as caught:
        hide_pixels(blank(2), mask)
    assert caught.value.text == (
        f"Expected a bool mask b 1 h w of shape (2, 1, 12, 12), but got {got}. "
        "Make masks with pretextkit.views.mask_patches, mask_blocks or mask_center."
    )
