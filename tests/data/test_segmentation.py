from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pretextkit.data import load_segmentation
from pretextkit.errors import DataError, OptionError, ShapeError


def parts(count: int = 4, height: int = 6, width: int = 8) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {
        "images": rng.integers(0, 256, (count, height, width, 3), dtype=np.uint8),
        "masks": rng.integers(0, 4, (count, height, width), dtype=np.uint8),
    }


def arrays(*names: str, **changes: Any) -> dict[str, Any]:
    return {f"{name}_{key}": value for name in names for key, value in parts().items()} | changes


def test_load_segmentation_reads_npz(tmp_path: Path) -> None:
    file = tmp_path / "streets.npz"
    names = ["sky", "road", "car", "void"]
    np.savez(file, **arrays("train", "val", "test", class_names=names, ignore_index=3))
    data = load_segmentation(file)
    assert data.validation is not None
    for part in (data.train, data.validation, data.test):
        assert torch.equal(part.images, torch.from_numpy(parts()["images"]).permute(0, 3, 1, 2))
        assert torch.equal(part.masks, torch.from_numpy(parts()["masks"]))
    assert (data.class_names, data.ignore_index) == (("sky", "road", "car"), 3)
    assert repr(data) == (
        "SegmentationData(streets: 4 train, 4 validation and 4 test images of 3x6x8, 3 classes, 3 ignored)"
    )
    square = load_segmentation(file, size=6)
    assert torch.equal(square.train.images, data.train.images[..., 1:7])
    assert torch.equal(square.train.masks, data.train.masks[..., 1:7])


def test_load_segmentation_without_optional_arrays(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **arrays("train", "test"))
    data = load_segmentation(tmp_path / "a.npz")
    assert (data.validation, data.class_names, data.ignore_index) == (None, ("0", "1", "2", "3"), 255)


@pytest.mark.parametrize(
    ("content", "error", "text"),
    [
        (
            {"train_images": parts()["images"]},
            DataError,
            r"an array train_masks in .*a\.npz, but got train_images\. Save with numpy\.savez",
        ),
        (
            arrays("train", "test", test_masks=parts()["masks"][:, :5]),
            ShapeError,
            r"test of .*a\.npz masks n h w for images of \(4, 3, 6, 8\), but got shape \(4, 5, 8\)",
        ),
        (
            arrays("train", "test", train_masks=np.zeros((4, 6, 8))),
            DataError,
            r"masks of integers for train of .*float64",
        ),
    ],
)
def test_load_bad_npz_raises_error(tmp_path: Path, content: dict[str, Any], error: type[Exception], text: str) -> None:
    np.savez(tmp_path / "a.npz", **content)
    with pytest.raises(error, match=text):
        load_segmentation(tmp_path / "a.npz")
    with pytest.raises(OptionError, match="Expected size to be an integer >= 1, but got 0"):
        load_segmentation(tmp_path / "a.npz", size=0)


def voc(root: Path, train: int = 3, val: int = 2, size: tuple[int, int] = (12, 8)) -> Path:
    """The left half of each image is black and class 0, the right half white and class 15; the top row is 255."""
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    for split, count in (("train", train), ("val", val)):
        names = [f"{split}_{i}" for i in range(count)]
        (root / "ImageSets/Segmentation" / f"{split}.txt").write_text("\n".join(names) + "\n")
        for name in names:
            picture = np.zeros((size[1], size[0], 3), np.uint8)
            picture[:, size[0] // 2 :] = 255
            Image.fromarray(picture).save(root / "JPEGImages" / f"{name}.jpg", quality=100)
            mask = np.where(picture[..., 0] > 128, 15, 0).astype(np.uint8)
            mask[0] = 255
            palette = Image.fromarray(mask).convert("P")
            palette.putdata(mask.flatten().tolist())
            palette.putpalette([value for level in range(256) for value in (level, 255 - level, 7)])
            palette.save(root / "SegmentationClass" / f"{name}.png")
    return root


def test_load_segmentation_reads_pascal_voc(tmp_path: Path) -> None:
    data = load_segmentation(voc(tmp_path / "VOC2012"))
    assert data.train.images.shape == (3, 3, 8, 8)
    assert data.test.masks.shape == (2, 8, 8)
    assert data.test.masks[0].tolist() == [[255] * 8] + [[0] * 4 + [15] * 4] * 7
    assert data.test.images[0, 0, :, :3].max() < 40
    assert data.test.images[0, 0, :, 5:].min() > 215
    assert (data.validation, data.ignore_index, data.class_names[15], len(data.class_names)) == (
        None,
        255,
        "person",
        21,
    )
    other = load_segmentation(voc(tmp_path / "own", size=(16, 24)), size=5)
    assert other.class_names == tuple(map(str, range(16)))
    assert set(torch.unique(other.train.masks).tolist()) <= {0, 15, 255}  # no class between two others


def test_load_bad_pascal_voc_raises_error(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"in the layout of Pascal VOC at .*, but got none of .*train\.txt\. Pass the f"
    ):
        load_segmentation(tmp_path)
    root = voc(tmp_path / "VOC2012")
    mask = root / "SegmentationClass/train_1.png"
    Image.open(mask).convert("RGB").save(mask)
    with pytest.raises(DataError, match=r"a mask of palette indices or gray levels for train_1 in .* a color image"):
        load_segmentation(root)
    mask.unlink()
    with pytest.raises(DataError, match=r"can be decoded at .*train_1\.png, but got FileNotF.*remove its name"):
        load_segmentation(root)
    Image.new("L", (3, 3)).save(mask)
    with pytest.raises(
        ShapeError, match=r"train_1 of .*VOC2012 masks n h w for images of \(1, 3, 8, 12\), but got shape"
    ):
        load_segmentation(root)
    (root / "JPEGImages/val_0.jpg").write_bytes(b"")
    with pytest.raises(DataError) as caught:
        load_segmentation(root)
    assert (
        "val_0.jpg, but got an empty file. "
        "Repair the file, or remove its name from the lists in ImageSets/Segmentation. See"
    ) in str(caught.value)
    (root / "ImageSets/Segmentation/val.txt").write_text("")
    with pytest.raises(DataError, match=r"names of images in the lists of .*, but got an empty list"):
        load_segmentation(root)
