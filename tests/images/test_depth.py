"""Images of more than eight bits, with a stated range; files that Pillow does not read, by a function of the user."""

from __future__ import annotations

import re
import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import pretextkit as pk
from pretextkit.data import FolderImages, ImageFormat, as_source, load
from pretextkit.data._image_format import in_format
from pretextkit.errors import DataError, DataWarning, OptionError, ShapeError
from pretextkit.functional import knn_probe, pretrain
from pretextkit.models import SmallCNN
from tests.helpers import generator


def read(images: Any, **options: Any) -> Tensor:
    return torch.cat([batch.images for batch in as_source(images, **options).in_order(3)])


def deep(count: int = 6, top: int = 4095, dtype: torch.dtype = torch.uint16, channels: int = 1) -> Tensor:
    levels = torch.randint(top + 1, (count, channels, 8, 9), generator=generator())
    levels[0, 0, 0, 0], levels[0, 0, 0, 1] = top, 0
    return levels.to(dtype)


INTEGERS = [torch.uint16, torch.int16, torch.int32, torch.uint32, torch.int64]


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("top", [1023, 4095, 16383])
def test_integers_with_white_become_floats_of_all_levels(dtype: torch.dtype, top: int) -> None:
    images = deep(40, top, dtype)
    out = read(images, white=top)
    torch.testing.assert_close(out, (images.long().double() / top).float())
    assert len(set(out.flatten().tolist())) == len(set(images.flatten().tolist()))
    assert torch.equal(read(images.numpy(), white=top), out)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_floats_with_range_are_scaled_and_clipped(dtype: torch.dtype) -> None:
    hounsfield = (4000 * torch.rand(6, 1, 8, 9, generator=generator()) - 1000).to(dtype)
    with pytest.warns(DataWarning, match=r"of the values of the images lie beyond black=-100 and white=300"):
        out = read(hounsfield, black=-100, white=300)
    expected = ((hounsfield.double() + 100) / 400).clamp(0, 1).float()
    torch.testing.assert_close(out, expected, atol=1e-3 if dtype == torch.float16 else 1e-6, rtol=0)


def test_white_can_lie_beyond_sixteen_bits() -> None:
    images = deep(6, 1_000_000, torch.int32)
    torch.testing.assert_close(read(images, white=1_000_000), (images.double() / 1_000_000).float())


class Rows(Dataset[Any]):
    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        return self.items[index]


class Stream(IterableDataset[Any]):
    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Any:
        return iter(self.items)


def collate_stacked(items: list[Tensor]) -> Tensor:
    return torch.stack(items)


HOLDERS: dict[str, Callable[[Tensor], Any]] = {
    "tensor": lambda images: images,
    "array": lambda images: images.numpy(),
    "dataset": lambda images: Rows(list(images)),
    "dataset of arrays": lambda images: Rows([image[0].numpy() for image in images]),
    "dataset of PIL images": lambda images: Rows([Image.fromarray(image[0].numpy()) for image in images]),
    "list of tensors": list,
    "list of PIL images": lambda images: [Image.fromarray(image[0].numpy()) for image in images],
    "loader": lambda images: DataLoader(Rows(list(images)), batch_size=4),
    "loader with its own collation": lambda images: DataLoader(
        Rows(list(images)), batch_size=4, collate_fn=collate_stacked
    ),
    "stream": lambda images: Stream(list(images)),
}


@pytest.mark.parametrize("holder", HOLDERS)
def test_white_holds_for_every_kind_of_images(holder: str) -> None:
    images = deep()
    given = HOLDERS[holder](images)
    assert torch.equal(read(given, white=4095), read(images, white=4095))
    source = as_source(given, white=4095)
    assert torch.equal(source.in_memory().images, read(images, white=4095))
    assert torch.equal(next(source.without_labels().in_order(6)).images, read(images, white=4095))


def test_labels_stay_beside_a_range() -> None:
    images = deep()
    for given in ((images, [0, 1] * 3), (Rows(list(images)), [0, 1] * 3)):
        assert as_source(given, white=4095).in_memory().labels.tolist() == [0, 1] * 3  # type: ignore[union-attr]
    named = as_source(images, ["b", "a"] * 3, white=4095)
    assert (named.class_names, next(named.in_order(6)).labels.tolist()) == (("a", "b"), [1, 0] * 3)  # type: ignore[union-attr]
    pairs = as_source(TensorDataset(images, torch.arange(6)), white=4095)
    assert next(pairs.in_order(6)).labels.tolist() == list(range(6))  # type: ignore[union-attr]
    again = as_source((as_source(images, white=4095), ["b", "a"] * 3))
    assert torch.equal(next(again.in_order(6)).images, read(images, white=4095))


@pytest.mark.parametrize("holder", ["tensor", "dataset", "list of PIL images", "loader"])
def test_range_holds_where_images_are_resized(holder: str) -> None:
    images = deep()
    wanted = ImageFormat(4, 4, 3)
    out = next(in_format(as_source(HOLDERS[holder](images), white=4095), wanted).in_order(6)).images
    torch.testing.assert_close(out, wanted.apply(images.float() / 4095))


def test_memory_mapped_images_stay_on_disk(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", deep().numpy())
    mapped = np.load(tmp_path / "a.npy", mmap_mode="r")
    source = as_source(mapped, white=4095)
    assert source.images.dtype == torch.uint16  # type: ignore[attr-defined]
    assert next(source.batches([torch.tensor([1])])).images.dtype == torch.float32


@pytest.mark.parametrize("dtype", INTEGERS)
def test_first_advice_for_integers_is_never_to_uint8(dtype: torch.dtype) -> None:
    for top in (1, 17, 200, 255, 1023, 4095, 65535 if dtype != torch.int16 else 32767):
        with pytest.raises(DataError) as caught:
            as_source(deep(6, top, dtype))
        text = str(caught.value)
        assert "uint8)" not in text.partition("but got")[2], text
        assert re.search(r"Divide by the value of white: images\.float\(\) / \d+", text), text
        if top > 255:
            white = re.search(r"as_source\(\.\.\., white=(\d+)\)", text)
            assert white is not None
            assert int(white[1]) >= top


def test_advice_for_floats_beyond_one_names_black_and_white() -> None:
    images = 4000 * torch.rand(6, 1, 8, 9, generator=generator()) - 1000
    with pytest.raises(DataError) as caught:
        as_source(images)
    found = re.search(r"as_source\(\.\.\., black=(\S+), white=(\S+)\)", str(caught.value))
    assert found is not None
    out = read(images, black=float(found[1]), white=float(found[2]))
    assert (float(out.min()), float(out.max())) == pytest.approx((0, 1), abs=1e-3)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"white": 0}, "white above black=0, but got white=0"),
        ({"white": 5, "black": 9}, "white above black=9, but got white=5"),
        ({"black": 3}, "white beside black, but got black=3 alone"),
        ({"white": "4095"}, "Expected white to be"),
        ({"white": float("nan")}, "Expected white to be"),
        ({"white": float("inf")}, "Expected white to be"),
    ],
)
def test_wrong_range_is_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(OptionError, match=re.escape(text)):
        as_source(deep(), **options)
    with pytest.raises(OptionError, match=re.escape(text)):
        pk.data.DatasetImages(Rows([1]), **options)


def test_range_beside_a_source_or_bools_is_refused(tmp_path: Path) -> None:
    Image.new("L", (8, 8), 200).save(tmp_path / "a.png")
    for made in (as_source(torch.rand(2, 1, 4, 4)), FolderImages(tmp_path)):
        with pytest.raises(OptionError, match="white where a source is made, but got a"):
            as_source(made, white=255)
    with pytest.raises(DataError, match=r"beside white, but got torch\.bool\. Leave black and white out"):
        as_source(torch.ones(2, 1, 4, 4, dtype=torch.bool), white=1)
    with pytest.raises(DataError, match="finite pixels, but got one that is not, first in image 3"):
        as_source(torch.rand(5, 1, 4, 4).index_fill(0, torch.tensor([3]), torch.nan), white=2)
    with pytest.raises(ShapeError, match="images b c h w"):
        as_source(torch.rand(4, 4), white=2)
    with pytest.raises(OptionError, match=r"white beside a folder or an \.npz file"):
        load("sample", white=255)


def test_wrong_white_warns_and_right_white_does_not() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        as_source(deep(top=4095), white=4095)
        hot = deep(200, 1023)
        hot[3, 0, 0, :3] = 4000  # hot pixels, fewer than one in a hundred
        as_source(hot, white=1023)
        as_source(torch.zeros(3, 1, 4, 4, dtype=torch.int64), white=4095)
        as_source(4095 * torch.arange(32).view(2, 1, 4, 4).remainder(2), white=4095)  # black and white themselves
    with pytest.warns(DataWarning, match=r"is 4095, below a tenth of the range 0 to 65535\. If 4095 .* white=4095"):
        as_source(deep(top=4095), white=65535)
    with pytest.warns(DataWarning, match=r"of the values of the images lie beyond .*are clipped; the highest is 4095"):
        as_source(deep(top=4095), white=1023)


def test_deep_images_train_and_probe_alike_in_every_container() -> None:
    images, labels = deep(16, 4095), torch.arange(16) % 2
    results = []
    for given in (as_source((images, labels), white=4095), (images.float() / 4095, labels)):
        task = pk.tasks.Autoencoder(SmallCNN(in_channels=1))
        torch.manual_seed(0)
        for parameter in task.parameters():
            torch.nn.init.normal_(parameter, std=0.05)
        history = pretrain(task, given, steps=2, batch_size=8, progress=False).history
        results.append((history.rows[-1]["loss"], knn_probe(task.backbone, given, k=3, precision="fp32").accuracy))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-4)
    assert results[0][1] == results[1][1]


# Files


def save_deep(path: Path, top: int = 4095, side: int = 32) -> np.ndarray[Any, Any]:
    ramp = np.linspace(0, top, side * side).reshape(side, side).astype(np.uint16)
    Image.fromarray(ramp).save(path)
    return ramp


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_folder_with_white_keeps_the_levels(tmp_path: Path, suffix: str) -> None:
    ramp = save_deep(tmp_path / f"a{suffix}")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        folder = FolderImages(tmp_path, size=32, white=4095)
        image, _ = folder[0]
        torch.testing.assert_close(image, torch.from_numpy(ramp / 4095).float().expand(3, -1, -1))
        assert torch.equal(read(tmp_path, size=32, white=4095)[0], image)
        assert torch.equal(read([tmp_path / f"a{suffix}"], white=4095)[0, 0], image[0])
        assert torch.equal(read(tmp_path / f"a{suffix}", white=4095)[0, 0], image[0])
    assert len(set(image.flatten().tolist())) == len(set(ramp.flatten().tolist()))


def test_folder_of_twelve_bits_warns_with_the_call_that_mends_it(tmp_path: Path) -> None:
    save_deep(tmp_path / "a.png")
    with pytest.warns(DataWarning, match=r"is 4095, below a tenth of the range 0 to 65535\.") as caught:
        FolderImages(tmp_path)
    call = re.search(r"pretextkit\.data\.FolderImages\(.*\)", str(caught[0].message))
    assert call is not None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(eval(call[0], {"pretextkit": pk})[0][0].unique()) > 900


@pytest.mark.parametrize(("top", "white", "text"), [(4095, 65535, "pass white=4095"), (4095, 255, "are clipped")])
def test_wrong_white_of_a_folder_warns(tmp_path: Path, top: int, white: int, text: str) -> None:
    for i in range(6):
        save_deep(tmp_path / f"{i}.png", top)
    with pytest.warns(DataWarning, match=text):
        FolderImages(tmp_path, white=white)


@pytest.mark.parametrize("kind", ["floats", "signed"])
def test_deep_kinds_are_read_with_the_range_in_the_message(tmp_path: Path, kind: str) -> None:
    ramp = np.linspace(-1000, 3000, 1024).reshape(32, 32)
    Image.fromarray(ramp.astype(np.float32 if kind == "floats" else np.int32)).save(tmp_path / "a.tif")
    with pytest.raises(DataError, match=r"FolderImages\(root, black=\S+, white=\S+\)") as caught:
        FolderImages(tmp_path)[0]
    if kind == "signed":
        found = re.search(r"black=(\S+), white=(\d+)", str(caught.value))
        assert found is not None
        assert (int(found[1]), int(found[2])) == (-1000, 3000)
    image, _ = FolderImages(tmp_path, black=-1000, white=3000)[0]
    torch.testing.assert_close(image[0], torch.from_numpy((ramp + 1000) / 4000).float(), atol=3e-4, rtol=0)


def test_load_reads_deep_folders_and_archives(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for i in range(5):
            save_deep(tmp_path / "set" / name / f"{i}.png")
    data = load(tmp_path / "set", white=4095)
    assert (data.train_images.dtype, data.train_images.shape[1:], float(data.train_images.max())) == (
        torch.float32,
        (3, 32, 32),
        1.0,
    )
    images = deep(10, channels=2)
    np.savez(tmp_path / "a.npz", train_images=images.numpy(), train_labels=[0, 1] * 5)
    with pytest.raises(DataError, match=r"white=4095"):
        load(tmp_path / "a.npz")
    for found in (load(tmp_path / "a.npz", white=4095), load(tmp_path / "a.npz", white=4095, size=4)):
        assert found.train_images.dtype == torch.float32
        assert found.train_images.shape[1] == 2
    whole = as_source(tmp_path / "a.npz", white=4095).in_memory()
    torch.testing.assert_close(whole.images, images.float() / 4095)


def read_tiff(path: Path) -> np.ndarray[Any, Any]:
    """Read an uncompressed TIFF file of one strip and any number of interleaved bands of 16 bits, ``h w c``."""
    content = path.read_bytes()
    order = "<" if content[:2] == b"II" else ">"
    (start,) = struct.unpack_from(order + "I", content, 4)
    (count,) = struct.unpack_from(order + "H", content, start)
    tags = {}
    for place in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind, number, value = struct.unpack_from(order + "HHII", content, place)
        tags[tag] = struct.unpack_from(order + "H", content, place + 8)[0] if kind == 3 and number == 1 else value
    height, width, bands = tags[257], tags[256], tags[277]
    values = np.frombuffer(content, order + "u2", height * width * bands, tags[273])
    return values.reshape(height, width, bands).astype(np.uint16)


def write_tiff(path: Path, values: np.ndarray[Any, Any]) -> None:
    """Write bands ``h w c`` of 16 bits, interleaved in one strip."""
    height, width, bands = values.shape
    pixels = values.astype("<u2").tobytes()
    bits = struct.pack(f"<{bands}H", *[16] * bands)
    strip = 8 + len(bits) + len(bits) % 2
    tags = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, bands, 8),
        (259, 3, 1, 1),
        (262, 3, 1, 1),
        (273, 4, 1, strip),
        (277, 3, 1, bands),
        (278, 4, 1, height),
        (279, 4, 1, len(pixels)),
        (284, 3, 1, 1),
    ]
    start = strip + len(pixels)
    table = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + struct.pack("<I", 0)
    path.write_bytes(struct.pack("<2sHI", b"II", 42, start) + bits.ljust(strip - 8, b"\0") + pixels + table)


def bands(seed: int, height: int = 24, width: int = 32) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, 10_001, (height, width, 5)).astype(np.uint16)


def test_tiff_of_five_bands_is_read_by_a_function(tmp_path: Path) -> None:
    for name, seeds in (("field", range(4)), ("town", range(4, 8))):
        (tmp_path / name).mkdir()
        for seed in seeds:
            write_tiff(tmp_path / name / f"{seed}.tif", bands(seed))
    (tmp_path / "readme.txt").write_text("notes")
    folder = FolderImages(tmp_path, open=read_tiff, white=10_000, size=24, fit="stretch")
    assert (folder.classes, folder.labels, len(folder)) == (("field", "town"), (0,) * 4 + (1,) * 4, 8)
    assert repr(folder).startswith(f"FolderImages({tmp_path}: 8 images of 24x24, 2 classes")
    image, label = folder[5]
    assert (image.shape, image.dtype, label) == ((5, 24, 24), torch.float32, 1)
    full = torch.from_numpy(bands(5).astype(np.float32) / 10_000).clamp(max=1).permute(2, 0, 1)
    wanted = torch.nn.functional.interpolate(full[None], (24, 24), mode="bilinear", antialias=True)[0]
    torch.testing.assert_close(image, wanted)
    torch.testing.assert_close(FolderImages(tmp_path, open=read_tiff, white=10_000)[0][0], crop(bands(0)))
    task = pk.tasks.SimCLR(SmallCNN(in_channels=5))
    assert pretrain(task, folder, steps=2, batch_size=4, progress=False, workers=2).steps == 2
    assert knn_probe(task.backbone, folder, k=1).accuracy >= 0
    assert folder.to_file_pixels(torch.rand(24, 24), 0).shape == (24, 32)


def crop(values: np.ndarray[Any, Any]) -> Tensor:
    tensor = torch.from_numpy(values.astype(np.float32) / 10_000).clamp(max=1).permute(2, 0, 1)
    return tensor[:, :, 4:28]


def test_arrays_of_numpy_are_read_by_numpy(tmp_path: Path) -> None:
    for i in range(3):
        np.save(tmp_path / f"{i}.npy", np.full((12, 12, 7), 100 * i + 50, np.uint8))
    folder = FolderImages(tmp_path, open=np.load)
    assert [int(folder[i][0][0, 0, 0]) for i in range(3)] == [50, 150, 250]
    assert (folder[0][0].shape, folder[0][0].dtype, folder.size) == ((7, 12, 12), torch.uint8, 12)
    np.save(tmp_path / "3.npy", np.full((12, 12), 0.5))
    gray = FolderImages([tmp_path / "3.npy"], open=np.load)[0][0]
    assert (gray.shape, gray.dtype) == ((1, 12, 12), torch.float32)


def test_suffixes_and_notes(tmp_path: Path) -> None:
    for name in ("a.npy", "b.NPY", "c.dat", "scan"):
        with (tmp_path / name).open("wb") as file:
            np.save(file, np.full((8, 8), 200, np.uint8))
    for note in ("notes.txt", "labels.csv", "README", ".hidden"):
        (tmp_path / note).write_text("x")

    def names(**options: Any) -> list[str]:
        return [path.name for path in FolderImages(tmp_path, open=np.load, **options).paths]

    assert names() == ["a.npy", "b.NPY", "c.dat", "scan"]
    assert names(suffixes=(".npy",)) == ["a.npy", "b.NPY"]
    assert names(suffixes=[".DAT"]) == ["c.dat"]
    with pytest.raises(DataError, match="images in"):
        FolderImages(tmp_path)
    for wrong in ("npy", ("npy",), (), 3):
        with pytest.raises(OptionError, match="suffixes"):
            FolderImages(tmp_path, open=np.load, suffixes=wrong)  # type: ignore[arg-type]


def fail(path: Path) -> Any:
    raise RuntimeError(f"bad {path.name}")


@pytest.mark.parametrize(
    ("opener", "error", "text"),
    [
        (fail, DataError, r"an image from open\('.*a\.npy'\), but got .*bad a\.npy"),
        (lambda path: "text", DataError, r"from open\('.*a\.npy'\), but got str"),
        (lambda path: np.full((8, 8), 300, np.uint16), DataError, r"torch\.uint16\. Divide .*white=1023"),
        (
            lambda path: np.full((8, 8), 3.0),
            DataError,
            r"\[0, 1\], from open\('.*a\.npy'\), but got values from 3",
        ),
        (
            lambda path: np.zeros((5, 8, 8)),
            ShapeError,
            r"from open\('.*a\.npy'\), but got shape \(5, 8, 8\)\. Put",
        ),
        (lambda path: np.zeros(8), ShapeError, r"from open\('.*a\.npy'\), but got shape \(8,\)"),
    ],
)
def test_errors_of_a_function_name_the_file(tmp_path: Path, opener: Any, error: Any, text: str) -> None:
    np.save(tmp_path / "a.npy", np.zeros((8, 8)))
    with pytest.raises(error, match=text):
        FolderImages(tmp_path, open=opener)
    if opener is fail:
        with pytest.raises(DataError, match="that can be decoded, but got 1 that cannot"):
            FolderImages(tmp_path, open=opener, on_error="skip")


def test_files_that_a_function_cannot_read_are_skipped(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.full((8, 8), 200, np.uint8))
    (tmp_path / "b.npy").write_bytes(b"damaged")
    folder = FolderImages(tmp_path, open=np.load, on_error="skip")
    assert ([path.name for path in folder.paths], folder.skipped[0][0].name) == (["a.npy"], "b.npy")


def test_wrong_options_beside_a_function(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.full((8, 8), 200, np.uint8))
    with pytest.raises(OptionError, match=r"a cache of ordinary files, .* but got cache beside open"):
        FolderImages(tmp_path, open=np.load, cache=tmp_path / "cache")
    with pytest.raises(OptionError, match="but got cache beside white"):
        FolderImages(tmp_path, white=255, cache=tmp_path / "cache")


def test_dark_arrays_of_a_function_warn(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.full((8, 8), 300, np.uint16))
    with pytest.warns(DataWarning, match=r"from black=0 to white=65535\. Choose a white near"):
        FolderImages(tmp_path, open=np.load, white=65535)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        FolderImages(tmp_path, open=np.load, white=1023)
