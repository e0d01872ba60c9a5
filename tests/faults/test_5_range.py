"""Advice on files that Pillow does not read, followed to the letter (section 5)."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy
import pytest

from pretextkit.data import FolderImages
from pretextkit.errors import DataError, OptionError


def save(root: Path) -> Path:
    numpy.save(root / "a.npy", numpy.full((8, 8, 5), 200, numpy.uint8))
    return root


def option(error: pytest.ExceptionInfo[Exception]) -> dict[str, Any]:
    """Evaluate the options that an error names."""
    text = str(error.value).partition(" See ")[0]
    options: dict[str, Any] = eval(f"dict({text[text.index('For example ') + 12 :].rstrip('.')})", {"numpy": numpy})
    return options


def test_function_that_opens_files(tmp_path: Path) -> None:
    root, wrong = save(tmp_path), "numpy.load"
    with pytest.raises(OptionError, match="open to be a function of a path, but got str") as caught:
        FolderImages(root, open=wrong)  # type: ignore[arg-type]
    assert FolderImages(root, **option(caught))[0][0].shape == (5, 8, 8)


def test_suffixes_of_files(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="suffixes that begin with a dot") as caught:
        FolderImages(save(tmp_path), open=numpy.load, suffixes=("npy",))
    assert len(FolderImages(tmp_path, open=numpy.load, **option(caught))) == 1


def png_of_16_bits(values: numpy.ndarray[Any, Any]) -> bytes:
    """Write colors ``h w 3`` as a PNG file of 16 bits."""
    height, width, _ = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)

    def part(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = part(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + part(b"IDAT", zlib.compress(rows)) + part(b"IEND", b"")


def read_png_of_16_bits(path: Path) -> numpy.ndarray[Any, Any]:
    content = path.read_bytes()
    width, height = struct.unpack_from(">II", content, 16)
    start = content.index(b"IDAT")
    (length,) = struct.unpack_from(">I", content, start - 4)
    rows = numpy.frombuffer(zlib.decompress(content[start + 4 : start + 4 + length]), numpy.uint8)
    colors: numpy.ndarray[Any, Any] = rows.reshape(height, -1)[:, 1:].copy().view(">u2")
    return colors.reshape(height, width, 3).astype(numpy.uint16)


def test_colors_of_sixteen_bits(tmp_path: Path) -> None:
    values = numpy.linspace(0, 65535, 8 * 8 * 3).astype(numpy.uint16).reshape(8, 8, 3)
    (tmp_path / "a.png").write_bytes(png_of_16_bits(values))
    with pytest.raises(DataError, match=r"FolderImages\(root, open=function, white=65535\)\.( See |$)"):
        FolderImages(tmp_path, white=65535)[0]
    image, _ = FolderImages(tmp_path, open=read_png_of_16_bits, white=65535)[0]
    assert numpy.allclose(image.permute(1, 2, 0).numpy() * 65535, values, atol=0.01)
