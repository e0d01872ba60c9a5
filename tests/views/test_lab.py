from __future__ import annotations

import pytest
import torch

from pretextkit.errors import DataError, ShapeError
from pretextkit.views._lab import lab_to_rgb, rgb_to_lab, same_lightness
from tests.helpers import uniform


def lab_of(red: float, green: float, blue: float) -> tuple[float, float, float]:
    """Compute Lab of one pixel by the formulas and the white point of IEC 61966-2-1 and CIE 15:2004."""

    def linear(value: float) -> float:
        return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4

    def root(value: float) -> float:
        return value ** (1 / 3) if value > 216 / 24389 else (24389 / 27 * value + 16) / 116

    r, g, b = map(linear, (red, green, blue))
    x = root((0.4124 * r + 0.3576 * g + 0.1805 * b) / 0.95047)
    y = root(0.2126 * r + 0.7152 * g + 0.0722 * b)
    z = root((0.0193 * r + 0.1192 * g + 0.9505 * b) / 1.08883)
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def test_rgb_to_lab_matches_published_formulas() -> None:
    images = torch.cat([uniform(2, 3, 7, 5), 0.06 * uniform(1, 3, 7, 5)])  # the last image spans both knees
    lab = rgb_to_lab(images)
    for image, found in zip(images, lab, strict=True):
        for row in range(7):
            for column in range(5):
                expected = lab_of(*image[:, row, column].tolist())
                assert found[:, row, column].tolist() == pytest.approx(expected, abs=0.02)


def rgb_of(lightness: float, a: float, b: float) -> tuple[float, float, float]:
    """Compute sRGB of one Lab pixel by the inverse formulas, and clip."""

    def cube(value: float) -> float:
        return value**3 if value**3 > 216 / 24389 else (116 * value - 16) * 27 / 24389

    def encoded(value: float) -> float:
        value = 12.92 * value if value <= 0.0031308 else 1.055 * value ** (1 / 2.4) - 0.055
        return min(max(value, 0.0), 1.0)

    y = (lightness + 16) / 116
    x, y, z = 0.95047 * cube(y + a / 500), cube(y), 1.08883 * cube(y - b / 200)
    return (
        encoded(3.2406 * x - 1.5372 * y - 0.4986 * z),
        encoded(-0.9689 * x + 1.8758 * y + 0.0415 * z),
        encoded(0.0557 * x - 0.2040 * y + 1.0570 * z),
    )


def test_lab_to_rgb_matches_published_formulas() -> None:
    lab = uniform(2, 3, 7, 5) * torch.tensor([100.0, 120.0, 120.0]).view(1, 3, 1, 1)
    lab[:, 1:] -= 60  # some of it is beyond sRGB
    lab[1, 0] /= 10  # on both sides of the knees
    for pixels, found in zip(lab, lab_to_rgb(lab), strict=True):
        for row in range(7):
            for column in range(5):
                expected = rgb_of(*pixels[:, row, column].tolist())
                assert found[:, row, column].tolist() == pytest.approx(expected, abs=2e-3)


def test_same_lightness_keeps_lightness() -> None:
    images = uniform(4, 3, 16, 16)
    gray = same_lightness(images)
    assert gray.shape == (4, 1, 16, 16)
    lab = rgb_to_lab(gray.expand(-1, 3, -1, -1))
    torch.testing.assert_close(lab[:, 0], rgb_to_lab(images)[:, 0], atol=1e-3, rtol=0)
    torch.testing.assert_close(same_lightness(gray.expand(-1, 3, -1, -1)), gray, atol=1e-5, rtol=0)
    assert same_lightness(images.double()).dtype == torch.float64


@pytest.mark.parametrize(
    ("rgb", "expected"),
    [((1, 0, 0), (53.24, 80.09, 67.20)), ((0, 1, 0), (87.73, -86.18, 83.18)), ((0, 0, 1), (32.30, 79.19, -107.86))],
)
def test_primary_colors_match_published_values(rgb: tuple[float, ...], expected: tuple[float, ...]) -> None:
    found = rgb_to_lab(torch.tensor(rgb, dtype=torch.float64).view(1, 3, 1, 1)).flatten()
    assert found.tolist() == pytest.approx(expected, abs=0.02)


def test_gray_has_no_chroma_and_full_lightness_range() -> None:
    gray = torch.linspace(0, 1, 256).view(1, 1, 16, 16).expand(-1, 3, -1, -1)
    lab = rgb_to_lab(gray)
    assert lab[:, 1:].abs().max() < 1e-3
    assert (lab[0, 0].flatten().diff() > 0).all()
    assert lab[0, 0, 0, 0] == pytest.approx(0, abs=1e-5)
    assert lab[0, 0, -1, -1] == pytest.approx(100, abs=1e-4)


def test_lab_round_trip_restores_byte_colors() -> None:
    steps = torch.arange(0, 256, 15) / 255
    images = torch.cartesian_prod(steps, steps, steps).T.reshape(1, 3, 18 * 18, -1)
    torch.testing.assert_close(lab_to_rgb(rgb_to_lab(images)), images, atol=2e-4, rtol=0)
    double = images.double()
    torch.testing.assert_close(lab_to_rgb(rgb_to_lab(double)), double, atol=1e-6, rtol=0)


def test_chroma_of_srgb_is_within_110() -> None:
    steps = torch.linspace(0, 1, 33)
    lab = rgb_to_lab(torch.cartesian_prod(steps, steps, steps).T.reshape(1, 3, 33, -1))
    assert 100 < lab[:, 1:].abs().max() < 110


def test_colors_outside_srgb_are_clamped() -> None:
    lab = torch.tensor([[50.0, 200.0, -200.0], [120.0, 0.0, 0.0], [-5.0, 0.0, 0.0]])[:, :, None, None]
    found = lab_to_rgb(lab).flatten(1)
    assert found.min() >= 0
    assert found.max() <= 1
    assert found[1].tolist() == [1, 1, 1]
    assert found[2].tolist() == [0, 0, 0]


def test_autocast_does_not_change_results() -> None:
    images = uniform(2, 3, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        lab, back = rgb_to_lab(images), lab_to_rgb(100 * images)
    assert torch.equal(lab, rgb_to_lab(images))
    assert torch.equal(back, lab_to_rgb(100 * images))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_dtype_is_kept_and_half_precision_only_rounds(dtype: torch.dtype) -> None:
    images = uniform(2, 3, 8, 8).to(dtype)
    lab = rgb_to_lab(images)
    assert lab.dtype == dtype
    torch.testing.assert_close(lab.double(), rgb_to_lab(images.double()), atol=1e-4, rtol=1e-2)
    assert lab_to_rgb(lab).dtype == dtype


def test_gradient_is_finite_and_matches_finite_differences() -> None:
    images = uniform(1, 3, 2, 2).double().requires_grad_()
    assert torch.autograd.gradcheck(rgb_to_lab, images)
    assert torch.autograd.gradcheck(lambda x: lab_to_rgb(rgb_to_lab(x)), images)
    for convert in (rgb_to_lab, lab_to_rgb, same_lightness):
        for value in (0.0, 1.0):
            images = torch.full((1, 3, 1, 1), value, requires_grad=True)
            torch.autograd.backward(convert(images).sum())
            assert images.grad is not None
            assert images.grad.isfinite().all()


@pytest.mark.parametrize("memory", ["channels_last", "transposed"])
def test_memory_layout_does_not_matter_and_input_is_kept(memory: str) -> None:
    images = uniform(2, 3, 6, 6)
    twin = images.mT.contiguous().mT if memory == "transposed" else images.to(memory_format=torch.channels_last)
    before = twin.clone()
    torch.testing.assert_close(rgb_to_lab(twin), rgb_to_lab(images))
    torch.testing.assert_close(lab_to_rgb(twin), lab_to_rgb(images))
    assert torch.equal(twin, before)
    assert rgb_to_lab(images[:0]).shape == (0, 3, 6, 6)


def test_non_color_images_are_refused() -> None:
    with pytest.raises(ShapeError) as caught:
        rgb_to_lab(uniform(2, 1, 4, 4))
    assert caught.value.text == (
        "Expected sRGB images b 3 h w, but got shape (2, 1, 4, 4). Expand gray images: images.expand(-1, 3, -1, -1)."
    )
    with pytest.raises(ShapeError):
        lab_to_rgb(uniform(3, 4, 4))
    with pytest.raises(DataError):
        rgb_to_lab(torch.zeros(1, 3, 2, 2, dtype=torch.uint8))
