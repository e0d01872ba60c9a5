"""Image files with changed, missing or additional bytes: an image, or a DataError that names the file."""

from __future__ import annotations

import io
import os
import random
import signal
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from pretextkit.comparison._resources import peak_memory, reset_peak_memory
from pretextkit.data import FolderImages
from pretextkit.errors import DataError

CHANGES = 3000 if os.environ.get("HYPOTHESIS_PROFILE") == "nightly" else 100
"""Of each of the files."""

SECONDS, BYTES = 60, 1 << 30


def encoded(kind: str, mode: str, **options: Any) -> bytes:
    draw = random.Random(0)
    image = Image.new("RGB", (24, 20))
    image.putdata([(draw.randrange(256), draw.randrange(256), x % 256) for x in range(24 * 20)])
    deep = Image.new("I;16", (24, 20), 40_000)
    file = io.BytesIO()
    (deep if mode == "I;16" else image.convert(mode)).save(file, kind, **options)
    return file.getvalue()


def with_exif() -> bytes:
    exif = Image.Exif()
    exif[274] = 6  # a quarter turn
    return encoded("JPEG", "RGB", exif=exif.tobytes())


FILES: dict[str, Callable[[], bytes]] = {
    "gray.png": lambda: encoded("PNG", "L"),
    "palette.png": lambda: encoded("PNG", "P"),
    "deep.png": lambda: encoded("PNG", "I;16"),
    "transparent.png": lambda: encoded("PNG", "RGBA"),
    "turned.jpg": with_exif,
    "progressive.jpg": lambda: encoded("JPEG", "RGB", progressive=True),
    "cmyk.jpg": lambda: encoded("JPEG", "CMYK"),
    "a.gif": lambda: encoded("GIF", "P"),
    "a.bmp": lambda: encoded("BMP", "RGB"),
    "a.tif": lambda: encoded("TIFF", "RGB"),
    "packed.tif": lambda: encoded("TIFF", "L", compression="tiff_lzw"),
    "a.webp": lambda: encoded("WEBP", "RGB"),
    "a.ppm": lambda: encoded("PPM", "RGB"),
}


def changed(content: bytes, draw: random.Random) -> bytes:
    data = bytearray(content)
    for _ in range(draw.choice((1, 1, 1, 2, 8))):
        # Headers hold sizes, offsets and lengths.
        place = draw.randrange(min(len(data), 64) if draw.random() < 0.5 else len(data)) if data else 0
        kind = draw.random()
        if kind < 0.7 and data:
            data[place] = draw.choice((0, 1, 127, 128, 255, data[place] ^ 1 << draw.randrange(8)))
        elif kind < 0.8:
            del data[place:]
        elif kind < 0.9:
            data[place:place] = draw.randbytes(draw.randrange(1, 9))
        else:
            del data[place : place + draw.randrange(1, 9)]
    return bytes(data)


@pytest.fixture
def _no_hang() -> Iterator[None]:
    def late(*_: Any) -> None:
        raise AssertionError(f"a file took more than {SECONDS} s")

    if not hasattr(signal, "SIGALRM"):
        yield
        return
    before = signal.signal(signal.SIGALRM, late)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.usefixtures("_no_hang")
@pytest.mark.parametrize("name", FILES)
def test_changed_file_gives_image_or_names_file(name: str, tmp_path: Path) -> None:
    content, path, refused = FILES[name](), tmp_path / name, list[str]()
    path.write_bytes(content)
    assert FolderImages(tmp_path, size=8)[0][0].shape == (3, 8, 8)
    device = torch.device("cpu")
    reset_peak_memory(device)
    before = peak_memory(device) or 0
    draw = random.Random(name)
    for number in range(CHANGES):
        path.write_bytes(changed(content, draw))
        if hasattr(signal, "SIGALRM"):
            signal.alarm(SECONDS)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of Pillow: as errors, they would stop the decoder
                image, label = FolderImages(tmp_path, size=8)[0]
        except DataError as error:
            refused.append(str(error))
            continue
        assert image.shape == (3, 8, 8), number
        assert image.dtype == torch.uint8
        assert label == -1
    assert refused  # PNG has checksums: every change is refused
    assert all(name in text for text in refused)
    assert (peak_memory(device) or 0) - before < BYTES


def test_decompression_bomb_is_refused_before_decoding(tmp_path: Path) -> None:
    content = bytearray(encoded("BMP", "RGB"))
    content[18:26] = (60_000).to_bytes(4, "little") * 2
    (tmp_path / "bomb.bmp").write_bytes(content)
    device = torch.device("cpu")
    reset_peak_memory(device)
    before = peak_memory(device) or 0
    with pytest.raises(DataError, match=r"bomb\.bmp"):
        FolderImages(tmp_path, size=8)[0]
    assert (peak_memory(device) or 0) - before < BYTES // 8


@pytest.mark.parametrize("size", [(300_000, 1), (1, 300_000)])
def test_extreme_aspect_ratio_is_cropped_before_scaling(size: tuple[int, int], tmp_path: Path) -> None:
    """Scaled to 224 pixels high, it would be 67 million wide."""
    Image.new("L", size, 77).save(tmp_path / "line.png")
    device = torch.device("cpu")
    reset_peak_memory(device)
    before = peak_memory(device) or 0
    image, _ = FolderImages(tmp_path, size=224, fit="crop")[0]
    assert torch.equal(image, torch.full((3, 224, 224), 77, dtype=torch.uint8))
    assert (peak_memory(device) or 0) - before < BYTES // 8
