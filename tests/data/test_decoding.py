"""JPEG files that are reduced while they are decoded, against a full decoding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from pretextkit.data import FolderImages
from pretextkit.data._decoding import MARGIN, decode, decode_resized
from pretextkit.data._resizing import Fit, resize

LIMIT = 10**8


def photo(width: int, height: int, seed: int = 0) -> Image.Image:
    """Draw a picture with detail at several scales."""
    generator = np.random.default_rng(seed)
    picture = np.full((height, width, 3), 128.0)
    for scale in (4, 16, 64, 256):
        noise = generator.normal(0, 160 / scale, (scale, scale, 3)).astype(np.float32)
        for channel in range(3):
            layer = Image.fromarray(noise[..., channel]).resize((width, height), Image.Resampling.BICUBIC)
            picture[..., channel] += np.asarray(layer)
    return Image.fromarray(picture.clip(0, 255).astype(np.uint8))


def slow_twin(path: Path, size: int, fit: Fit) -> Tensor:
    return resize(decode(path, LIMIT)[None], size, fit)[0]


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("shape", [(803, 601), (601, 803), (640, 640), (1000, 130), (257, 256), (496, 392), (784, 776)])
@pytest.mark.parametrize("size", [16, 33, 64])
def test_reduced_image_is_that_of_full_decoding(tmp_path: Path, fit: Fit, shape: tuple[int, int], size: int) -> None:
    path = tmp_path / "a.jpg"
    photo(*shape).save(path, quality=90)
    image, full = decode_resized(path, LIMIT, size, fit)
    twin = slow_twin(path, size, fit)
    assert image.shape == twin.shape == (3, size, size)
    assert full == (shape[1], shape[0])
    distance = (image.float() - twin.float()).abs()
    assert distance.mean() < 1
    assert distance.max() < 12
    shifted = (twin[:, :, 1:].float() - twin[:, :, :-1].float()).abs().mean()
    assert distance.mean() < shifted / 4  # far below the shift of one pixel


@pytest.mark.parametrize("pattern", ["checkers", "rings", "noise"])
@pytest.mark.parametrize("side", [768, 1024])  # an eighth is 1.5 and 2 times the final side
def test_sharp_patterns_stay_near_full_decoding(tmp_path: Path, pattern: str, side: int) -> None:
    """Two filters differ most on black beside white; a photo is far from that."""
    y, x = np.mgrid[:side, :side]
    pixels = {
        "checkers": (x // 16 + y // 16) % 2 * 255.0,
        "rings": 127 + 127 * np.cos((x**2 + y**2) / 2_000),
        "noise": np.random.default_rng(0).normal(128, 40, (side, side)),
    }[pattern]
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(tmp_path / "a.jpg", quality=92)
    found, twin = decode_resized(tmp_path / "a.jpg", LIMIT, 64, "crop")[0], slow_twin(tmp_path / "a.jpg", 64, "crop")
    assert (found.float() - twin.float()).abs().mean() < 8
    assert abs(found.float().mean() - twin.float().mean()) < 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_reduced_image_is_upright(tmp_path: Path, orientation: int) -> None:
    path = tmp_path / "a.jpg"
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo(500, 300).save(path, exif=exif)
    image, full = decode_resized(path, LIMIT, 24, "crop")
    assert full == ((500, 300) if orientation > 4 else (300, 500))
    assert (image.float() - slow_twin(path, 24, "crop").float()).abs().mean() < 1


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGB"])
@pytest.mark.parametrize("progressive", [False, True])
def test_reduced_image_of_every_kind_of_jpeg(tmp_path: Path, mode: str, progressive: bool) -> None:
    path = tmp_path / "a.jpeg"
    photo(400, 300).convert(mode).save(path, progressive=progressive)
    image, _ = decode_resized(path, LIMIT, 20, "crop")
    assert image.shape[0] == (1 if mode == "L" else 3)
    assert (image.float() - slow_twin(path, 20, "crop").float()).abs().mean() < 1


@pytest.mark.parametrize(("side", "reduced"), [(95, False), (96, True), (127, False), (128, True), (600, True)])
def test_only_large_files_are_reduced(
    tmp_path: Path, side: int, reduced: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.jpg"
    photo(side, side).save(path)
    sides: list[int] = []
    original = resize

    def watched(images: Tensor, *arguments: Any) -> Tensor:
        sides.append(min(images.shape[2:]))
        return original(images, *arguments)

    monkeypatch.setattr("pretextkit.data._decoding.resize", watched)
    decode_resized(path, LIMIT, 32, "crop")
    assert (sides[0] < side) == reduced
    assert sides[0] >= min(side, MARGIN * 32)


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.webp"])
def test_other_formats_are_decoded_in_full(tmp_path: Path, name: str) -> None:
    photo(400, 300).save(tmp_path / name)
    image, _ = decode_resized(tmp_path / name, LIMIT, 20, "crop")
    assert torch.equal(image, slow_twin(tmp_path / name, 20, "crop"))


def test_line_of_pixels_is_decoded_in_full(tmp_path: Path) -> None:
    photo(2000, 70).save(tmp_path / "a.jpg")
    image, _ = decode_resized(tmp_path / "a.jpg", LIMIT, 8, "crop")
    assert torch.equal(image, slow_twin(tmp_path / "a.jpg", 8, "crop"))


@pytest.mark.parametrize("left", [0.2, 0.6, 0.9])
def test_damaged_large_file_is_found(tmp_path: Path, left: float) -> None:
    photo(400, 300).save(tmp_path / "good.jpg")
    content = (tmp_path / "good.jpg").read_bytes()
    (tmp_path / "bad.jpg").write_bytes(content[: int(left * len(content))])
    images = FolderImages(tmp_path, size=20, on_error="skip")
    assert [path.name for path in images.paths] == ["good.jpg"]
    assert [path.name for path, _ in images.skipped] == ["bad.jpg"]


def test_map_goes_back_to_pixels_of_the_full_file(tmp_path: Path) -> None:
    photo(400, 300).save(tmp_path / "a.jpg")
    images = FolderImages(tmp_path, size=20, fit="pad")
    assert images.to_file_pixels(torch.rand(20, 20), 0).shape == (300, 400)
