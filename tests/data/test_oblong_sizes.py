"""Sizes that are a pair (height, width): folders, sets, caches, classifiers and the command line."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import pretextkit as pk
from pretextkit import functional
from pretextkit.cli import main
from pretextkit.data import FolderImages, as_source, load, load_segmentation
from pretextkit.data._image_format import ImageFormat
from pretextkit.data._resizing import lost_area, resize
from pretextkit.errors import DataWarning, OptionError, ShapeError
from pretextkit.inference import _archive
from pretextkit.models import SmallCNN

SHAPES = [(40, 60), (60, 40), (48, 48), (33, 90), (70, 31)]
SIZES = [(16, 24), (24, 16), (12, 40), 20, (41, 59)]
FITS = ["crop", "pad", "stretch"]


def photo(shape: tuple[int, int], seed: int = 0, zoom: float = 1) -> np.ndarray[Any, Any]:
    """Draw smooth colors, on which two antialiased resizings differ by a level at most."""
    rows, columns = np.mgrid[0 : shape[0], 0 : shape[1]] / zoom
    waves = [np.sin(rows / (5 + k + seed) + columns / (9 - k)) for k in range(3)]
    return np.asarray(127 + 120 * np.stack(waves, 2)).astype(np.uint8)


def naive(pixels: np.ndarray[Any, Any], size: int | tuple[int, int], fit: str) -> Tensor:
    """Resize by Pillow, and crop or pad pixel by pixel."""
    height, width = (size, size) if isinstance(size, int) else size
    ratios = [Fraction(height, pixels.shape[0]), Fraction(width, pixels.shape[1])]
    if fit == "stretch":
        inner = [height, width]
    else:
        ratio = max(ratios) if fit == "crop" else min(ratios)
        inner = [round(side * ratio) for side in pixels.shape[:2]]
    scaled = np.asarray(Image.fromarray(pixels).resize((inner[1], inner[0]), Image.Resampling.BILINEAR))
    result = np.zeros((height, width, 3), np.uint8)
    for y in range(height):
        for x in range(width):
            row, column = y + (inner[0] - height) // 2, x + (inner[1] - width) // 2
            if fit == "pad":
                row, column = y - (height - inner[0]) // 2, x - (width - inner[1]) // 2
            result[y, x] = scaled[min(max(row, 0), inner[0] - 1), min(max(column, 0), inner[1] - 1)]
    return torch.from_numpy(result).permute(2, 0, 1)


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("shape", SHAPES)
def test_resize_equals_pillow_and_a_crop_or_border(shape: tuple[int, int], size: Any, fit: Any) -> None:
    pixels = photo(shape)
    found = resize(torch.from_numpy(pixels).permute(2, 0, 1)[None], size, fit)[0]
    assert (found.int() - naive(pixels, size, fit).int()).abs().max() <= 1


def test_line_of_many_pixels_is_cropped_before_it_is_scaled() -> None:
    line = torch.zeros(1, 1, 2, 200_000, dtype=torch.uint8)
    assert resize(line, (64, 128), "crop").shape == (1, 1, 64, 128)  # scaled first, it would have 64 x 6,400,000 pixels


def test_lost_area_compares_proportions() -> None:
    assert lost_area(30, 40, (3, 4)) == 0
    assert lost_area(40, 40, (20, 40)) == 0.5
    assert lost_area(40, 40, (40, 20)) == 0.5


@pytest.fixture(name="root")
def make_root(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    for number in range(12):
        (root / f"class-{number % 2}").mkdir(parents=True, exist_ok=True)
        pixels = photo((48, 64), seed=5 * (number % 2) + number)
        Image.fromarray(pixels).save(root / f"class-{number % 2}" / f"{number:02}.png")
    return root


def test_folder_reads_images_of_height_and_width(root: Path) -> None:
    images = FolderImages(root, size=(24, 40))
    assert images.size == (24, 40)
    assert "12 images of 3x24x40" in repr(images)
    expected = naive(np.asarray(Image.open(images.paths[3])), (24, 40), "crop")
    assert (images[3][0].int() - expected.int()).abs().max() <= 1


def test_pair_of_equal_sides_is_a_square(root: Path) -> None:
    assert FolderImages(root, size=(24, 24)).size == 24
    assert FolderImages(root, size=[np.int64(24), 30]).size == (24, 30)  # type: ignore[arg-type]


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(("size", "fit"), [((30, 80), "crop"), ((80, 30), "pad"), ((60, 45), "stretch")])
def test_reduced_decoding_is_close_to_full_decoding(tmp_path: Path, size: Any, fit: Any, turned: bool) -> None:
    """A camera stores an upright photo lying, with a note; the size means the upright image."""
    stored = Image.fromarray(photo((768, 1024), zoom=16))
    tags = Image.Exif()
    if turned:
        tags[0x0112] = 6
    stored.save(tmp_path / "1.jpg", quality=95, exif=tags)
    images = FolderImages(tmp_path, size=size, fit=fit)
    full = images.reader.full(images.paths[0])
    assert tuple(full.shape[1:]) == ((1024, 768) if turned else (768, 1024))
    expected = resize(full[None], size, fit)[0]
    assert images[0][0].shape == (3, *size)
    assert (images[0][0].int() - expected.int()).abs().float().mean() < 1


@pytest.mark.parametrize(("size", "reduced"), [((40, 400), False), ((40, 60), True), ((400, 40), False)])
def test_longer_part_decides_how_far_a_file_is_reduced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: Any, reduced: bool
) -> None:
    from PIL.JpegImagePlugin import JpegImageFile

    Image.fromarray(photo((768, 1024))).save(tmp_path / "1.jpg")
    asked: list[Any] = []
    monkeypatch.setattr(JpegImageFile, "draft", lambda self, mode, size: asked.append(size))
    FolderImages(tmp_path, size=size, fit="crop")[0]
    assert bool(asked) == reduced


def test_warning_of_the_crop_compares_with_the_size(root: Path) -> None:
    with pytest.warns(DataWarning, match="center crop removes 75% of a typical image"):
        FolderImages(root, size=(48, 16))
    FolderImages(root, size=(24, 32))  # of the proportions of the files: no warning, which would be an error


def test_cache_keeps_one_file_for_each_shape(root: Path, tmp_path: Path) -> None:
    for size in ((16, 24), (24, 16), (16, 24)):
        plain = FolderImages(root, size=size, fit="pad")
        for _ in range(2):
            cached = FolderImages(root, size=size, fit="pad", cache=tmp_path / "cache")
            assert all(torch.equal(cached[row][0], plain[row][0]) for row in range(12))
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_map_returns_to_the_pixels_of_the_file(root: Path) -> None:
    images = FolderImages(root, size=(24, 24 * 4), fit="crop")  # keeps 48 * 64 / 96 / 2 = 16 of 48 rows
    back = images.to_file_pixels(torch.ones(24, 96), 0)
    assert back.shape == (48, 64)
    assert torch.equal(~back.isnan().any(1), (torch.arange(48) >= 16) & (torch.arange(48) < 32))
    assert images.to_file_pixels(torch.rand(6, 24), 0).shape == (48, 64)
    with pytest.raises(ShapeError, match="Expected a map h w of the proportions 24x96, but got shape"):
        images.to_file_pixels(torch.ones(96, 24), 0)
    padded = FolderImages(root, size=(24, 96), fit="pad").to_file_pixels(torch.arange(96.0).expand(24, 96), 0)
    assert 31 < padded.min() < 33
    assert 62 < padded.max() < 64  # the columns 32 to 63 show the image


@pytest.mark.parametrize(
    ("size", "text"),
    [
        ((24, 0), "Expected width to be an integer >= 1, but got 0"),
        ((2.5, 8), "Expected height to be an integer >= 1, but got 2.5"),
        ((24, 32, 3), r"Expected size to be a side in pixels, or a pair \(height, width\), but got \(24, 32, 3\)"),
        ((24,), r"Expected size to be a side in pixels, or a pair \(height, width\), but got \(24,\)"),
        ("24x32", "Expected size to be an integer >= 1, but got '24x32'"),
        ({24, 32}, r"Expected size to be a side in pixels, or a pair \(height, width\), but got set"),
        (True, "Expected size to be an integer >= 1, but got True"),
    ],
)
def test_bad_sizes_are_refused(root: Path, size: Any, text: str) -> None:
    for call in (
        lambda: FolderImages(root, size=size),
        lambda: as_source(root, size=size),
        lambda: load(root, size=size),
        lambda: load_segmentation(root, size=size),
    ):
        with pytest.raises(OptionError, match=text):
            call()


def test_functions_take_a_pair(root: Path) -> None:
    shapes: list[Any] = []

    def model(images: Tensor) -> Tensor:
        shapes.append(tuple(images.shape[1:]))
        return images.mean((2, 3))

    functional.knn_probe(model, root, k=1, size=(24, 32))
    functional.linear_probe(model, root, size=(24, 32))
    functional.nearest_neighbors(model, root, k=1, size=(24, 32))
    functional.near_duplicates(model, root, size=(24, 32))
    functional.neighbor_anomaly_score(model, root, root, size=(24, 32))
    functional.extract_features(model, root, size=(24, 32))
    assert set(shapes) == {(3, 24, 32)}


def test_sets_are_loaded_at_a_pair(root: Path) -> None:
    assert load(root, size=(24, 32)).train_images.shape[1:] == (3, 24, 32)
    assert load("sample", size=(14, 28)).test_images.shape[1:] == (1, 14, 28)


@pytest.mark.parametrize("fit", FITS)
def test_masks_stay_on_their_images(tmp_path: Path, fit: Any) -> None:
    mask = torch.zeros(4, 40, 60, dtype=torch.uint8)
    mask[:, 10:30, 20:50] = 1
    parts: dict[str, Any] = {f"{part}_images": (255 * mask)[..., None].numpy() for part in ("train", "test")}
    parts |= {f"{part}_masks": mask.numpy() for part in ("train", "test")}
    np.savez(tmp_path / "set.npz", **parts)
    data = load_segmentation(tmp_path / "set.npz", size=(24, 60), fit=fit)
    assert data.train.masks.shape == (4, 24, 60)
    inside = data.train.masks != 255
    assert inside.all() == (fit != "pad")
    near = (data.train.images[:, 0].float() / 255 - data.train.masks).abs() < 0.6
    assert near[inside].all()


def test_saved_classifier_predicts_a_folder_at_its_size(root: Path, tmp_path: Path) -> None:
    train = FolderImages(root, size=(24, 40), fit="pad")
    result = functional.linear_probe(SmallCNN(), train, layers="last")
    assert result.classifier.image_format == ImageFormat(24, 40, 3, "pad")
    result.classifier.save(tmp_path / "two.pt")
    classifier = pk.load_classifier(tmp_path / "two.pt")
    expected = classifier(torch.stack([train[row][0] for row in range(len(train))]).float() / 255).softmax(1)
    for images in (root, FolderImages(root, size=16)):
        torch.testing.assert_close(classifier.predict_proba(images), expected.detach(), atol=2e-5, rtol=0)


def test_classifier_of_an_earlier_version_stretches_oblong_images(root: Path, tmp_path: Path) -> None:
    """Its file has no entry of the start, and "crop" in the format of all images."""
    result = functional.linear_probe(SmallCNN(), FolderImages(root, size=(24, 40)), layers="last")
    result.classifier.save(tmp_path / "two.pt")
    tensors, header = _archive.read_archive(tmp_path / "two.pt")
    _archive.write_archive(tmp_path / "old.pt", tensors, {k: v for k, v in header.items() if k != "starts from"})
    found = [pk.load_classifier(tmp_path / name).image_format for name in ("two.pt", "old.pt")]
    assert found == [ImageFormat(24, 40, 3, "crop"), ImageFormat(24, 40, 3, "stretch")]


def test_oblong_tensors_are_stretched_to_as_before() -> None:
    wanted = ImageFormat.of(as_source(torch.rand(2, 3, 24, 40)))
    assert wanted == ImageFormat(24, 40, 3, "stretch")
    assert ImageFormat.of(as_source(torch.rand(2, 3, 24, 24))) == ImageFormat(24, 24, 3, "crop")


TRAIN = ["--epochs", "1", "--batch-size", "6", "--device", "cpu", "--precision", "fp32", "--no-progress"]


def test_command_line_takes_a_pair(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(root.parent)
    options = ["--backbone", "small-cnn", "--task", "simclr", "--size", "24x32", "--out", "run", *TRAIN]
    assert main(["pretrain", "photos", *options, "--show-code"]) == 0
    assert "size=(24, 32)" in capsys.readouterr().out
    assert main(["pretrain", "photos", *options]) == 0
    assert main(["probe", "photos", "--backbone", "run", "--show-code"]) == 0
    assert "size=(24, 32)" in capsys.readouterr().out
    for text, message in (("24x", "invalid size value: '24x'"), ("24x32x3", "a pair (height, width)"), ("0x8", ">= 1")):
        assert main(["pretrain", "photos", "--size", text, "--out", "other"]) != 0
        assert message in capsys.readouterr().err
