from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pretextkit.errors import ShapeError
from pretextkit.views import cut_patches, drop_colors, standardize_patches
from tests.helpers import generator


@st.composite
def images_and_corners(draw: st.DrawFn) -> tuple[Tensor, list[int], list[int], int]:
    n, channels, height, width = (draw(st.integers(1, high)) for high in (4, 3, 9, 9))
    size = draw(st.integers(1, min(height, width)))
    tops = draw(st.lists(st.integers(0, height - size), min_size=n, max_size=n))
    lefts = draw(st.lists(st.integers(0, width - size), min_size=n, max_size=n))
    return torch.rand(n, channels, height, width, generator=generator()), tops, lefts, size


@given(images_and_corners())
def test_patches_equal_slices(case: tuple[Tensor, list[int], list[int], int]) -> None:
    images, tops, lefts, size = case
    slices = [
        image[:, top : top + size, left : left + size] for image, top, left in zip(images, tops, lefts, strict=True)
    ]
    assert torch.equal(cut_patches(images, torch.tensor(tops), torch.tensor(lefts), size), torch.stack(slices))


@pytest.mark.parametrize(("top", "left"), [(-1, 0), (0, -1), (3, 0), (0, 5)])
def test_patches_beyond_the_edge_are_refused(top: int, left: int) -> None:
    with pytest.raises(ShapeError) as caught:
        cut_patches(torch.zeros(2, 1, 6, 8), torch.tensor([0, top]), torch.tensor([left, 0]), 4)
    tops, lefts = sorted((0, top)), sorted((0, left))
    assert caught.value.text == (
        f"Expected patches of 4 pixels inside images of 6x8, but got tops {tops[0]} to {tops[1]} and "
        f"lefts {lefts[0]} to {lefts[1]}. Use smaller patches or larger images."
    )


def test_patches_at_the_edge_are_accepted() -> None:
    assert cut_patches(torch.zeros(1, 1, 6, 8), torch.tensor([2]), torch.tensor([4]), 4).shape == (1, 1, 4, 4)


def test_missing_corners_are_refused() -> None:
    with pytest.raises(ShapeError) as caught:
        cut_patches(torch.zeros(3, 1, 6, 8), torch.tensor([0, 1]), torch.tensor([0, 1, 2]), 4)
    assert caught.value.text == (
        "Expected one top and one left for each image, but got (2,) tops and (3,) lefts for 3 images. "
        "Pass top and left of shape (b,)."
    )


def test_drop_colors_keeps_each_channel_equally_often() -> None:
    patches = torch.rand(3000, 3, 2, 2, generator=generator())
    dropped = drop_colors(patches, 0.6, generator=generator(1))
    is_gray = [(dropped == patches[:, [channel]]).flatten(1).all(1) for channel in range(3)]
    unchanged = (dropped == patches).flatten(1).all(1)
    assert (torch.stack([*is_gray, unchanged]).sum(0) == 1).all()
    for channel in is_gray:
        assert abs(channel.float().mean() - 0.2) < 0.04
    assert abs(unchanged.float().mean() - 0.4) < 0.05


@pytest.mark.parametrize("p", [0, 1])
def test_drop_colors_with_probability_zero_and_one(p: int) -> None:
    patches = torch.rand(50, 3, 2, 2, generator=generator())
    dropped = drop_colors(patches, p, generator=generator(1))
    assert torch.equal(dropped, patches) == (p == 0)
    assert bool((dropped == dropped[:, :1]).all()) == (p == 1)


def test_standardized_patches_have_documented_moments() -> None:
    patches = 0.4 + 0.1 * torch.rand(20, 3, 16, 16, generator=generator())  # even: nothing is clamped
    result = standardize_patches(patches).double()
    for patch, original in zip(result, patches.double(), strict=True):
        assert patch.mean().item() == pytest.approx(0.5, abs=1e-5)
        assert patch.numpy().std() == pytest.approx(0.25, abs=1e-5)
        scaled = 0.5 + 0.25 * (original.numpy() - original.numpy().mean()) / original.numpy().std()
        torch.testing.assert_close(patch, torch.from_numpy(scaled), atol=1e-5, rtol=0)


def test_standardization_removes_brightness_and_contrast() -> None:
    patches = torch.rand(20, 3, 8, 8, generator=generator())
    slope, offset = (torch.rand(20, 1, 1, 1, generator=generator(seed)) for seed in (1, 2))
    darker = (0.1 + 0.4 * slope) * patches + 0.5 * offset
    torch.testing.assert_close(standardize_patches(darker), standardize_patches(patches), atol=1e-5, rtol=0)


def test_channels_are_standardized_together() -> None:
    """Separate standardization would remove the color of a patch, which is not a shortcut."""
    red = torch.tensor([0.9, 0.1, 0.1]).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    result = standardize_patches(red)
    assert (result[:, 0] > result[:, 1]).all()


def test_constant_patches_become_gray_and_outliers_clamp() -> None:
    assert (standardize_patches(torch.full((1, 3, 4, 4), 0.9)) - 0.5).abs().max() < 1e-4
    spike = torch.zeros(1, 1, 8, 8)
    spike[..., 3, 3] = 1
    assert standardize_patches(spike).max() == 1
    assert standardize_patches(1 - spike).min() == 0
    faint = standardize_patches(0.5 + 1e-6 * spike)  # rounding noise is not blown up to full contrast
    assert (faint - 0.5).abs().max() < 1e-3
