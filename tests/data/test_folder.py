from __future__ import annotations

import io
import os
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from pretextkit.data import FolderImages, as_source
from pretextkit.data._image_conversion import pil_tensor
from pretextkit.data._resizing import resize_and_crop
from pretextkit.errors import DataError, OptionError

SIDE = 16


@pytest.fixture(name="picture")
def make_picture() -> Image.Image:
    """Make an image of smooth colors, which JPEG keeps."""
    y, x = np.mgrid[:SIDE, :SIDE] * 255 // (SIDE - 1)
    return Image.fromarray(np.stack([x, y, 255 - x], -1).astype(np.uint8))


def only(root: Path, **options: Any) -> Tensor:
    images = FolderImages(root, **options)
    assert len(images) == 1
    image, label = images[0]
    assert label == -1
    assert image.dtype == torch.uint8
    assert image.shape[0] == 3
    return image


def pixels(picture: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)


@pytest.mark.parametrize(
    ("mode", "name"),
    [
        ("RGB", "a.png"),
        ("RGB", "a.PNG"),
        ("RGB", "a.bmp"),
        ("RGB", "a.tif"),
        ("RGB", "a.jpg"),
        ("RGB", "a.JPEG"),
        ("L", "a.png"),
        ("L", "a.jpg"),
        ("1", "a.png"),
        ("P", "a.png"),
        ("P", "a.gif"),
        ("CMYK", "a.jpg"),
        ("CMYK", "a.tiff"),
        ("YCbCr", "a.jpg"),
    ],
)
def test_pil_tensor_matches_pillow_convert(tmp_path: Path, picture: Image.Image, mode: str, name: str) -> None:
    path = tmp_path / name
    picture.convert(mode).save(path)
    image = only(tmp_path)
    with Image.open(path) as stored:
        assert torch.equal(image, pixels(stored))
    colors = picture.convert(mode).convert("RGB")
    # The pixels are those of the file: only JPEG and the palette of a GIF may change them.
    assert (image.int() - pixels(colors).int()).abs().float().mean() < (
        4 if name.lower()[-4:] not in (".png",) else 0.01
    )


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_pixels_show_white(tmp_path: Path, mode: str) -> None:
    picture = Image.new(mode, (4, 4), (40, 40, 40, 0) if mode == "RGBA" else (40, 0))
    picture.putpixel((0, 0), (40, 40, 40, 255) if mode == "RGBA" else (40, 255))
    picture.putpixel((1, 0), (40, 40, 40, 128) if mode == "RGBA" else (40, 128))
    picture.save(tmp_path / "a.png")
    image = only(tmp_path)
    assert image[:, 0, 0].tolist() == [40] * 3
    assert image[0, 0, 1] == round(40 * 128 / 255 + 255 * 127 / 255)
    assert (image[:, 1:] == 255).all()


def test_transparent_palette_entries_show_white(tmp_path: Path) -> None:
    picture = Image.new("P", (4, 4), 1)
    picture.putpalette([255, 0, 0, 0, 0, 255])
    picture.putpixel((0, 0), 0)
    picture.save(tmp_path / "a.png", transparency=1)
    image = only(tmp_path)
    assert image[:, 0, 0].tolist() == [255, 0, 0]
    assert (image[:, 1:] == 255).all()
    picture.save(tmp_path / "a.png", transparency=b"\xff\x00")
    assert (only(tmp_path)[:, 1:] == 255).all()


def test_transparent_gray_color_shows_white(tmp_path: Path) -> None:
    picture = Image.new("L", (4, 4), 7)
    picture.putpixel((0, 0), 40)
    picture.save(tmp_path / "a.png", transparency=7)
    image = only(tmp_path)
    assert image[:, 0, 0].tolist() == [40] * 3
    assert (image[:, 1:] == 255).all()


def test_transparent_rgb_color_shows_white(tmp_path: Path) -> None:
    picture = Image.new("RGB", (4, 4), (7, 8, 9))
    picture.putpixel((0, 0), (40, 50, 60))
    picture.save(tmp_path / "a.png", transparency=(7, 8, 9))
    image = only(tmp_path)
    assert image[:, 0, 0].tolist() == [40, 50, 60]
    assert (image[:, 1:] == 255).all()


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_16_bit_gray_keeps_its_range(tmp_path: Path, name: str) -> None:
    values = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    Image.fromarray(values).save(tmp_path / name)
    expected = torch.from_numpy(np.rint(values / 257).astype(np.uint8))
    for channel in only(tmp_path):
        assert torch.equal(channel, expected)


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, depth: int, color: int, rows: bytes) -> bytes:
    """Write a PNG file by hand, in a mode that Pillow cannot write."""
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


def test_16_bit_color_keeps_its_range(tmp_path: Path) -> None:
    values = np.linspace(0, 65535, 48).astype(">u2").reshape(4, 4, 3)
    (tmp_path / "a.png").write_bytes(png(4, 4, 16, 2, b"".join(b"\0" + row.tobytes() for row in values)))
    expected = torch.from_numpy(values.astype(np.float64) / 257).permute(2, 0, 1)
    assert (only(tmp_path) - expected).abs().max() < 1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("mode", "name"),
    [(mode, f"a.{kind}") for mode in ("L", "RGB", "P") for kind in ("png", "tif")] + [("RGB", "a.jpg")],
)
def test_folder_applies_exif_orientation(tmp_path: Path, orientation: int, mode: str, name: str) -> None:
    upright = np.zeros((32, 48), np.uint8)  # the middle 32 columns are kept
    upright[:16, :24], upright[:16, 24:], upright[16:, :24] = 255, 170, 85
    turn: dict[int, Callable[[Any], Any]] = {  # the stored pixels for each value of the tag
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: lambda a: a.T,
        6: np.rot90,
        7: lambda a: np.rot90(a, 2).T,
        8: lambda a: np.rot90(a, -1),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(turn[orientation](upright))).convert(mode)
    stored.save(tmp_path / name, exif=exif)
    expected = torch.from_numpy(upright[:, 8:40]).int()
    assert (only(tmp_path).int() - expected).abs().max() < 12


@pytest.mark.parametrize("value", [-1, 65536])
def test_deep_image_of_unclear_range_raises_error(value: int) -> None:
    with pytest.raises(
        DataError, match=f"Expected an image of 8 or 16 bit, but got values from {value} to {value}. State"
    ):
        pil_tensor(Image.new("I", (2, 2), value))
    with pytest.raises(DataError, match="Expected an image of 8 or 16 bit, but got a floating-point image"):
        pil_tensor(Image.new("F", (2, 2), 0.5))


def save(path: Path, size: tuple[int, int] = (8, 8), color: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, color).save(path)
    return path


def test_folder_reads_class_folders(tmp_path: Path) -> None:
    for i, name in enumerate(["dog/b.png", "cat/deep/er/a.png", "cat/z.png", "dog/a.png", "Bird/1.png"]):
        save(tmp_path / name, color=100 + i)
    save(tmp_path / ".hidden" / "a.png")
    save(tmp_path / "cat" / ".hidden.png")
    (tmp_path / "dog" / "Thumbs.db").write_bytes(b"")
    images = FolderImages(tmp_path)
    assert images.classes == ("Bird", "cat", "dog")
    assert [str(path.relative_to(tmp_path)) for path in images.paths] == [
        "Bird/1.png",
        "cat/deep/er/a.png",
        "cat/z.png",
        "dog/a.png",
        "dog/b.png",
    ]
    assert images.labels == (0, 1, 1, 2, 2)
    assert [(int(image[0, 0, 0]), label) for image, label in (images[i] for i in range(5))] == [
        (104, 0),
        (101, 1),
        (102, 1),
        (103, 2),
        (100, 2),
    ]
    assert repr(images) == f"FolderImages({tmp_path}: 5 images of 3x8x8, 3 classes, 0 skipped)"


def test_flat_folder_is_unlabeled(tmp_path: Path) -> None:
    for i in range(3):
        save(tmp_path / f"{i}.png")
    images = FolderImages(str(tmp_path))
    assert (images.classes, images.labels) == ((), (-1, -1, -1))
    batch = next(as_source(tmp_path).batches([torch.arange(3)]))
    assert batch.labels is not None
    assert batch.labels.tolist() == [-1, -1, -1]


def test_folder_reads_linked_folder_once(tmp_path: Path) -> None:
    save(tmp_path / "elsewhere" / "a.png")
    root = tmp_path / "root"
    root.mkdir()
    (root / "cat").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "loop").symlink_to(root)
    images = FolderImages(root)
    assert (images.classes, len(images)) == (("cat",), 1)


def test_images_beside_folders_are_unlabeled(tmp_path: Path) -> None:
    for name in ("cover.png", "cat/a.png", "cat/deep/b.png", "__MACOSX/x.png", ".trash/y.png", "cat/._a.png"):
        save(tmp_path / name)
    (tmp_path / ".DS_Store").write_bytes(b"x")
    (tmp_path / "lost.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "linked.PNG").symlink_to(tmp_path / "cover.png")
    images = FolderImages(tmp_path)
    names = [path.relative_to(tmp_path).as_posix() for path in images.paths]
    assert names == ["cat/a.png", "cat/deep/b.png", "cover.png", "linked.PNG"]
    assert (images.classes, images.labels) == ((), (-1,) * 4)
    assert images.skipped == ((tmp_path / "lost.png", "a link to a file that does not exist"),)
    assert FolderImages(tmp_path, labels="folders").labels == (0, 0, -1, -1)


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.tif", "a.png"])
def test_first_image_of_several_is_read(tmp_path: Path, name: str) -> None:
    pages = [Image.new("RGB", (8, 8), color) for color in ("red", "lime", "blue")]
    pages[0].save(tmp_path / name, save_all=True, append_images=pages[1:])
    red, green, blue = only(tmp_path)[:, 4, 4].tolist()
    assert red > 240
    assert max(green, blue) < 16


def test_folder_default_size_is_median(tmp_path: Path) -> None:
    for i, size in enumerate([(10, 30), (12, 12), (40, 20)]):
        save(tmp_path / f"{i}.png", size)
    images = FolderImages(tmp_path, fit="crop")
    assert images.size == 12
    assert {tuple(image.shape) for image, _ in (images[i] for i in range(3))} == {(3, 12, 12)}
    assert FolderImages(tmp_path, size=9, fit="crop")[2][0].shape == (3, 9, 9)


def test_folder_with_size_opens_no_file(tmp_path: Path) -> None:
    save(tmp_path / "a.png", (12, 12))
    (tmp_path / "b.png").write_bytes(b"no picture")
    images = FolderImages(tmp_path, size=8)
    assert (len(images), images[0][0].shape) == (2, (3, 8, 8))
    with pytest.raises(
        DataError,
        match=r"^Expected an image file that can be decoded at .*b\.png, but got no kind of image that Pillow knows\.",
    ):
        images[1]
    with pytest.raises(DataError, match=r"b\.png"):
        FolderImages(tmp_path)
    assert [path.name for path, _ in FolderImages(tmp_path, size=8, on_error="skip").skipped] == ["b.png"]


def test_default_size_is_at_most_224(tmp_path: Path) -> None:
    save(tmp_path / "a.png", (400, 300))
    assert FolderImages(tmp_path).size == 224
    assert FolderImages(tmp_path, size=300).size == 300


@pytest.mark.parametrize("shape", [(40, 60), (60, 40), (41, 41), (16, 99)])
def test_resize_and_crop_takes_center(shape: tuple[int, int]) -> None:
    height, width = shape
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    image = ((torch.stack([x, y]) + 1) * 100).to(torch.uint8)
    middle = resize_and_crop(image[None], 16)[0]
    assert middle.shape == (2, 16, 16)
    # The crop is centered and covers the full shorter side.
    for channel, side, axis in ((0, width, 0), (1, height, 1)):
        means = middle[channel].double().mean(axis)
        share = min(shape) / side
        assert abs(means[[0, -1]].mean() - 100) < 3 + 100 / 16
        assert abs((means[-1] - means[0]) / (200 * share) - 15 / 16) < 0.08


def test_resize_is_antialiased() -> None:
    stripes = torch.tensor([0, 255], dtype=torch.uint8).repeat(64).expand(1, 128, 128)
    assert resize_and_crop(stripes[None], 16).double().std() < 5


def test_resize_keeps_image_of_right_size() -> None:
    image = torch.randint(0, 256, (3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(resize_and_crop(image[None], 16)[0], image)


def noisy(kind: str) -> bytes:
    values = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(values).save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["png", "jpeg", "bmp", "gif", "tiff"])
@pytest.mark.parametrize("left", [0, 1, 7, 20, 0.3, 0.6, 0.95])
def test_folder_names_or_skips_truncated_files(tmp_path: Path, kind: str, left: float) -> None:
    full = noisy(kind)
    save(tmp_path / "good.png")
    bad = tmp_path / f"bad.{kind}"
    bad.write_bytes(full[: int(left * len(full)) if isinstance(left, float) else left])
    with pytest.raises(DataError) as caught:
        FolderImages(tmp_path)[0]
    assert f"Expected an image file that can be decoded at {bad}, but got " in str(caught.value)
    assert 'Repair or remove it, or leave such files out with on_error="skip".' in str(caught.value)
    assert ("an empty file" in str(caught.value)) == (left == 0)
    images = FolderImages(tmp_path, on_error="skip")
    assert [path.name for path in images.paths] == ["good.png"]
    ((path, reason),) = images.skipped
    assert path == bad
    assert reason == caught.value.got
    assert len(images) == 1
    assert images.size == 8


def test_folder_other_file_with_image_suffix(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("<html>not found</html>")
    with pytest.raises(
        DataError, match=rf"at {re.escape(str(tmp_path / 'a.jpg'))}, but got no kind of image that Pillow knows\."
    ):
        FolderImages(tmp_path)
    with pytest.raises(
        DataError, match=r"Expected an image in .* that can be decoded, but got 1 that cannot. The first, a.jpg"
    ):
        FolderImages(tmp_path, on_error="skip")


def test_flipped_byte_in_png_raises_data_error(tmp_path: Path) -> None:
    content = bytearray(noisy("png"))
    content[len(content) // 2] ^= 0xFF
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(DataError, match=r"a.png, but got "):
        FolderImages(tmp_path)[0]


def test_missing_file_raises_data_error(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png")
    images = FolderImages(tmp_path)
    path.unlink()
    with pytest.raises(DataError, match=r"a.png, but got FileNotFoundError"):
        images[0]


@pytest.mark.parametrize("side", [20_000, 10_001])
def test_folder_refuses_decompression_bomb_by_header(tmp_path: Path, side: int) -> None:
    (tmp_path / "a.png").write_bytes(png(side, side, 1, 0, b"\0"))
    with pytest.raises(DataError, match=r"a\.png, but got .*(above max_pixels=100000000|DecompressionBomb)"):
        FolderImages(tmp_path)


def test_folder_max_pixels_limits_files(tmp_path: Path) -> None:
    save(tmp_path / "a.png", (20, 10))
    assert len(FolderImages(tmp_path, max_pixels=200, fit="crop")) == 1
    with pytest.raises(DataError, match=r"but got 20 x 10 pixels, above max_pixels=199. Repair"):
        FolderImages(tmp_path, max_pixels=199, fit="crop")
    # Between Pillow's own warning (89 million) and ours there is no warning.
    (tmp_path / "a.png").write_bytes(png(9_700, 9_700, 1, 0, b"\0"))
    assert len(FolderImages(tmp_path)) == 1


def test_folder_empty_or_missing_raises_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"Expected images in .*, but got no file. Check"):
        FolderImages(tmp_path)
    with pytest.raises(DataError, match=r"Expected a folder of images, but got '.*nowhere'. Check the path."):
        FolderImages(tmp_path / "nowhere")


def test_folder_options_outside_range_raise_error(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    wrong: Any = "ignore"
    with pytest.raises(OptionError, match='Expected on_error "raise" or "skip", but got \'ignore\''):
        FolderImages(tmp_path, on_error=wrong)
    with pytest.raises(OptionError, match="Expected size to be an integer >= 1, but got 0"):
        FolderImages(tmp_path, size=0)


def test_folder_closes_files(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(noisy("png")[:100])
    before = set(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else set()
    FolderImages(tmp_path, on_error="skip")[0]
    after = set(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else set()
    assert after == before
