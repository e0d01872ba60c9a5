from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from pretextkit.errors import OptionError
from pretextkit.views import random_horizontal_flip, random_resized_crop
from tests.helpers import generator

FULL = (1.0, 1.0)


def coordinates(n: int, height: int, width: int) -> Tensor:
    """Make images whose two channels hold the row and column of each pixel center; pixel 0 spans 0 to 1."""
    rows, columns = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    return torch.stack([rows, columns]).double().expand(n, -1, -1, -1)


def boxes(crops: Tensor) -> Tensor:
    """Read top, left, height and width (``n 4``) from enlarged crops of :func:`coordinates`.

    Bilinear enlargement preserves linear functions away from the edges.
    """
    size = crops.shape[-1]
    assert crops.shape[-2] == size
    middle = size // 2
    found = []
    for crop in crops:
        rows, columns = crop[0, :, middle], crop[1, middle]
        lengths = [float(line[middle + 1] - line[middle]) * size for line in (rows, columns)]
        centers = float(rows[middle]), float(columns[middle])
        starts = [center - (middle + 0.5) / size * n for center, n in zip(centers, lengths, strict=True)]
        found.append((*starts, *lengths))
    return torch.tensor(found)


def drawn_boxes(n: int, height: int, width: int, seed: int = 0, **options: tuple[float, float]) -> Tensor:
    enlarged = 2 * max(height, width)
    return boxes(random_resized_crop(coordinates(n, height, width), enlarged, generator=generator(seed), **options))


def sampled(line: list[float], start: float, length: float, size: int) -> list[float]:
    """Resize a segment of a line to ``size`` numbers with a triangle filter, in a loop."""
    result = []
    for step in range(size):
        center, reach = start + (step + 0.5) * length / size, max(1.0, length / size)
        weights = [max(0.0, 1 - abs(pixel + 0.5 - center) / reach) for pixel in range(len(line))]
        result.append(sum(w * value for w, value in zip(weights, line, strict=True)) / sum(weights))
    return result


@pytest.mark.parametrize("size", [5, 9, 24], ids=["shrunk", "kept", "enlarged"])
def test_crops_equal_a_loop_over_pixels(size: int) -> None:
    n, height, width = 3, 9, 11
    images = torch.rand(n, 2, height, width, generator=generator(5), dtype=torch.float64)
    crops = random_resized_crop(images, size, scale=(0.3, 0.9), generator=generator(7))
    for image, crop, box in zip(images, crops, drawn_boxes(n, height, width, 7, scale=(0.3, 0.9)), strict=True):
        top, left, box_height, box_width = box.tolist()
        for channel, result in zip(image, crop, strict=True):
            columns = [sampled(column, top, box_height, size) for column in channel.T.tolist()]
            expected = [sampled(list(row), left, box_width, size) for row in zip(*columns, strict=True)]
            torch.testing.assert_close(result, torch.tensor(expected, dtype=torch.float64), atol=1e-5, rtol=0)


@given(*(st.integers(2, 16) for _ in range(4)))
def test_crops_of_full_images_match_torch_interpolation(height: int, width: int, to_height: int, to_width: int) -> None:
    images = torch.rand(2, 3, height, width, generator=generator())
    options = {"scale": FULL, "ratio": (width / height, width / height)}
    resized = random_resized_crop(images, (to_height, to_width), generator=generator(), **options)
    expected = F.interpolate(images, (to_height, to_width), mode="bilinear", antialias=True, align_corners=False)
    torch.testing.assert_close(resized, expected, atol=2e-5, rtol=0)


def test_crop_of_a_full_square_image_is_the_image() -> None:
    images = torch.rand(4, 3, 12, 12, generator=generator())
    result = random_resized_crop(images, scale=FULL, ratio=FULL, generator=generator())
    torch.testing.assert_close(result, images, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (30, 40)])
def test_boxes_lie_inside_with_given_scale_and_ratio(height: int, width: int) -> None:
    scale, ratio = (0.2, 0.5), (3 / 4, 4 / 3)
    drawn = drawn_boxes(1000, height, width, scale=scale, ratio=ratio)
    top, left, box_height, box_width = drawn.T
    assert min(top.min(), left.min()) > -1e-3
    assert (top + box_height).max() < height + 1e-3
    assert (left + box_width).max() < width + 1e-3
    shares = box_height * box_width / (height * width)
    assert abs(shares.min() - scale[0]) < 0.01
    assert abs(shares.max() - scale[1]) < 0.01
    assert abs(shares.mean() - 0.35) < 0.01
    aspects = (box_width / box_height).log() / math.log(4 / 3)
    assert abs(aspects.min() + 1) < 0.02
    assert abs(aspects.max() - 1) < 0.02
    assert abs(aspects.mean()) < 0.06
    for start, length, side in ((top, box_height, height), (left, box_width, width)):
        places = start / (side - length)
        assert abs(places.mean() - 0.5) < 0.04
        assert places.min() < 0.02
        assert places.max() > 0.98
    assert abs(torch.corrcoef(torch.stack([top / (height - box_height), left / (width - box_width)]))[0, 1]) < 0.1


def test_ratio_is_width_over_height() -> None:
    _, _, height, width = drawn_boxes(50, 30, 30, scale=(0.1, 0.2), ratio=(2.0, 2.5)).T
    assert (width / height).min() > 1.99
    assert (width / height).max() < 2.51


def test_boxes_too_wide_are_clipped() -> None:
    _, left, height, width = drawn_boxes(20, 32, 32, scale=FULL, ratio=(4.0, 4.0)).T
    torch.testing.assert_close(width, torch.full((20,), 32.0), atol=0.05, rtol=0)
    torch.testing.assert_close(height, torch.full((20,), 16.0), atol=0.05, rtol=0)
    assert left.abs().max() < 0.05


@given(*(st.integers(1, 12) for _ in range(4)), st.integers(0, 5))
def test_crops_of_any_size_stay_in_the_range_of_the_image(
    height: int, width: int, to_height: int, to_width: int, seed: int
) -> None:
    images = torch.rand(2, 1, height, width, generator=generator(seed))
    crops = random_resized_crop(images, (to_height, to_width), generator=generator(seed))
    assert crops.shape == (2, 1, to_height, to_width)
    for image, crop in zip(images, crops, strict=True):
        assert image.min() - 1e-5 <= crop.min()
        assert crop.max() <= image.max() + 1e-5


def test_downscaling_does_not_alias() -> None:
    """Alternating columns are white; a filter with two taps would give black or white."""
    stripes = (torch.arange(64) % 2).float().expand(1, 1, 64, 64)
    shrunk = random_resized_crop(stripes, 8, scale=FULL, ratio=FULL, generator=generator())
    assert (shrunk - 0.5).abs().max() < 0.1


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"scale": (0.0, 1.0)}, "Expected scale to be a number in (0, 1], but got 0.0. "),
        ({"scale": (0.5, 0.2)}, "Expected scale to be an ordered pair (smallest, largest), but got (0.5, 0.2). "),
        ({"scale": (0.5, 1.1)}, "Expected scale to be a number in (0, 1], but got 1.1. "),
        ({"ratio": (0.0, 1.0)}, "Expected ratio to be a number in (0, inf), but got 0.0. "),
        ({"ratio": (2.0, 1.0)}, "Expected ratio to be an ordered pair (smallest, largest), but got (2.0, 1.0). "),
        ({"size": 0}, "Expected size to be an integer >= 1, but got 0. "),
        ({"size": (8, -1)}, "Expected size to be an integer >= 1, but got -1. "),
        ({"size": (8, 8, 8)}, "Expected size to be a sequence of 2 values, but got (8, 8, 8). "),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, tuple[float, float]], text: str) -> None:
    with pytest.raises(OptionError) as caught:
        random_resized_crop(torch.zeros(1, 1, 8, 8), **options, generator=generator())  # type: ignore[arg-type]
    assert str(caught.value).startswith(text)


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_flips_mirror_a_fraction_p_of_the_images(p: float) -> None:
    images = torch.rand(2000, 2, 3, 4, generator=generator())
    result = random_horizontal_flip(images, p, generator=generator(1))
    mirrored = 0
    for image, view in zip(images, result, strict=True):
        is_mirrored = not torch.equal(view, image)
        mirrored += is_mirrored
        if is_mirrored:
            assert torch.equal(view, torch.stack([image[:, :, column] for column in (3, 2, 1, 0)], 2))
    assert mirrored == 2000 * p if p in (0, 1) else abs(mirrored / 2000 - p) < 0.05
