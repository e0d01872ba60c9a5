from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, TensorDataset

import pretextkit as pk
from pretextkit.data import FolderImages, as_source, load
from pretextkit.errors import DataError, DataWarning
from pretextkit.functional import knn_probe, pretrain
from pretextkit.models import SmallCNN
from pretextkit.tasks import Rotation


def deep(path: Path, top: int, side: int = 64) -> None:
    ramp = np.linspace(0, top, side * side).reshape(side, side)
    Image.fromarray(ramp.astype(np.uint16)).save(path)


def test_script_warns_and_cure_keeps_levels(tmp_path: Path) -> None:
    deep(tmp_path / "a.tif", 4095)
    with pytest.warns(DataWarning, match=r"is 4095, below a tenth of the range 0 to 65535\.") as caught:
        FolderImages(tmp_path, size=64)
    advice = str(caught[0].message)
    code = advice[advice.index("pretextkit.data") :].partition(". See ")[0]
    pixels = eval(code, {"pretextkit": pk})[0][0]
    assert (pixels.shape, float(pixels.max())) == ((3, 64, 64), 1.0)
    assert len(set(pixels.flatten().tolist())) == 4096
    assert len(as_source(pixels[None])) == 1


@pytest.mark.parametrize("top", [255, 1023, 4095])
def test_deep_files_of_few_bits_warn(tmp_path: Path, top: int) -> None:
    for i in range(3):
        deep(tmp_path / f"{i}.png", top - i)
    for read in (FolderImages, load, as_source):
        with pytest.warns(DataWarning, match=f"is {top}, below a tenth"):
            read(tmp_path)


@pytest.mark.parametrize("top", [16383, 65535])
def test_deep_files_of_full_range_do_not_warn(tmp_path: Path, top: int) -> None:
    deep(tmp_path / "a.png", top)
    FolderImages(tmp_path)


def photo(path: Path, level: int = 200) -> None:
    Image.new("RGB", (64, 64), (level, level, 9)).save(path)


@pytest.mark.parametrize("names", [("a.png", "b.jpg"), ("b.png", "a.jpg"), ("a.tif", "b.png")])
def test_deep_files_beside_photos_warn_by_themselves(tmp_path: Path, names: tuple[str, str]) -> None:
    deep(tmp_path / names[0], 4095)
    photo(tmp_path / names[1])
    text = rf"of 1 16-bit images in .*, such as {names[0]}, is 4095, .* folder of their own"
    with pytest.warns(DataWarning, match=text) as caught:
        FolderImages(tmp_path)
    assert len(caught) == 1
    folder = tmp_path / "own"
    folder.mkdir()
    (tmp_path / names[0]).rename(folder / names[0])
    code = str(caught[0].message).partition("value: ")[2].partition(". See ")[0]
    apart = eval(code, {"pretextkit": pk, "folder": folder})
    assert len(set(apart[0][0].flatten().tolist())) == 4096


def test_few_deep_files_among_many_photos_warn(tmp_path: Path) -> None:
    for i in range(150):
        photo(tmp_path / f"{i:03}.png")
    deep(tmp_path / "077.png", 1023)
    with pytest.warns(DataWarning, match=r"1 16-bit images in .*, such as 077.png, is 1023"):
        FolderImages(tmp_path, size=8)


@pytest.mark.parametrize("top", [65535, 7000, 0])
def test_bright_or_black_deep_files_beside_photos_do_not_warn(tmp_path: Path, top: int) -> None:
    photo(tmp_path / "a.jpg")
    deep(tmp_path / "b.png", top)
    deep(tmp_path / "c.png", top)
    FolderImages(tmp_path)


def test_one_bright_deep_file_beside_photos_does_not_warn(tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg")
    for i, top in enumerate((4095, 60000, 4095)):
        deep(tmp_path / f"{i}.png", top)
    FolderImages(tmp_path)


def test_dark_folder_warns_once_with_the_cause_of_files(tmp_path: Path) -> None:
    for i in range(3):
        deep(tmp_path / f"{i}.png", 4095)
    with pytest.warns(DataWarning) as caught:
        as_source(FolderImages(tmp_path, size=8), labels=False).in_memory()
    assert [str(each.message).partition("16-bit")[1] for each in caught] == ["16-bit"]


def test_dark_items_made_of_a_bright_folder_still_warn(tmp_path: Path) -> None:
    photo(tmp_path / "a.png")
    folder = FolderImages(tmp_path)
    items: Any = [(folder[0][0] / 255 / 255, 0)]
    with pytest.warns(DataWarning, match="divided by 255 twice"):
        as_source(items).in_memory()


def test_images_with_gradients_give_no_warning_of_torch() -> None:
    images = torch.rand(4, 3, 8, 8, requires_grad=True)
    assert len(list(as_source(images).in_order(2))) == 2


def test_dark_files_beside_one_bright_pixel_do_not_warn(tmp_path: Path) -> None:
    for i in range(40):
        picture = Image.new("L", (8, 8), 4)
        if i == 37:
            picture.putpixel((3, 3), 255)
        picture.save(tmp_path / f"{i}.png")
    FolderImages(tmp_path)
    load(tmp_path)


def test_folder_of_bytes_made_of_floats_warns(tmp_path: Path) -> None:
    for i in range(3):
        Image.fromarray((np.random.default_rng(i).random((8, 8, 3)) * 1.9).astype(np.uint8)).save(tmp_path / f"{i}.png")
    with pytest.warns(DataWarning, match="is 1, below a tenth of the range 0 to 255. If floats"):
        FolderImages(tmp_path)


def dark(kind: str) -> torch.Tensor:
    images = torch.rand(32, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return {
        "floats cast to bytes": images.round().byte(),
        "divided twice": images / 255,
        "12 bit by 65535": images * 4095 / 65535,
        "bytes of 12 bit": (images * 15).byte(),
    }[kind]


DARK = ["floats cast to bytes", "divided twice", "12 bit by 65535", "bytes of 12 bit"]


@pytest.mark.parametrize("kind", DARK)
def test_dark_tensors_and_files_warn(tmp_path: Path, kind: str) -> None:
    images = dark(kind)
    for data in (images, images.numpy(), (images, [0, 1] * 16)):
        with pytest.warns(DataWarning, match=r"The brightest pixel of the images is .*, below a tenth of the range"):
            as_source(data)
    np.savez(tmp_path / "a.npz", train_images=images.numpy())
    if images.dtype == torch.uint8:
        with pytest.warns(DataWarning, match="below a tenth"):
            load(tmp_path / "a.npz")


@pytest.mark.parametrize("kind", DARK)
@pytest.mark.parametrize("loader", [False, True])
def test_dark_datasets_warn_in_pretrain_and_probe(kind: str, loader: bool) -> None:
    pairs: Any = TensorDataset(dark(kind), torch.arange(32) % 2)
    data = DataLoader(pairs, batch_size=8) if loader else pairs
    with pytest.warns(DataWarning, match="below a tenth"):
        knn_probe(torch.nn.Flatten(), data, k=1)
    with pytest.warns(DataWarning, match="below a tenth"):
        pretrain(pk.tasks.SimCLR(pk.models.SmallCNN()), data, steps=1, batch_size=8, progress=False)


@pytest.mark.parametrize("value", [0.02, 0.09])
@pytest.mark.parametrize("place", [0, 150, 299])
def test_night_photos_with_one_bright_pixel_do_not_warn(value: float, place: int) -> None:
    images = torch.full((300, 1, 8, 8), value)
    images[place, 0, 4, 4] = 0.6
    as_source(images)
    as_source((images * 255).byte())
    list(as_source(TensorDataset(images, torch.zeros(300, dtype=torch.int64))).in_order(64))


def test_black_images_do_not_warn() -> None:
    as_source(torch.zeros(4, 3, 8, 8))
    as_source(torch.zeros(4, 3, 8, 8, dtype=torch.uint8))


@pytest.mark.parametrize(
    ("image", "text"),
    [
        (Image.new("F", (4, 4), 0.5), "a floating-point image"),
        (Image.new("I", (4, 4), -5), "values from -5 to -5"),
    ],
)
def test_deep_file_of_other_kind_has_one_message(tmp_path: Path, image: Image.Image, text: str) -> None:
    image.save(tmp_path / "a.tif")
    with pytest.raises(DataError) as caught:
        FolderImages(tmp_path)[0]
    assert str(caught.value).startswith(
        f"Expected an image of 8 or 16 bit at {tmp_path / 'a.tif'}, but got {text}. State the values"
    )
    assert str(caught.value).count("Expected") == 1


class Deep(Dataset[torch.Tensor]):
    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.from_numpy(np.array(Image.open(self.paths[index])) / 4095).float()[None]


def test_dataset_that_divides_by_true_range_trains(tmp_path: Path) -> None:
    for i in range(8):
        deep(tmp_path / f"{i}.tif", 4095, 32)
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)
        data = Deep(sorted(tmp_path.glob("*.tif")))
        task = pk.tasks.SimCLR(pk.models.SmallCNN(in_channels=1))
        assert pretrain(task, data, steps=1, batch_size=4, progress=False).steps == 1


def test_pretraining_on_a_folder_of_deep_files_warns_once(tmp_path: Path) -> None:
    for number in range(8):
        pixels = np.random.default_rng(number).integers(0, 4096, (32, 32)).astype("uint16")
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    with pytest.warns(DataWarning, match="brightest pixel") as caught:
        pretrain(Rotation(SmallCNN()), FolderImages(tmp_path, size=32), steps=1, batch_size=8, progress=False)
    assert len([each for each in caught if "brightest" in str(each.message)]) == 1
