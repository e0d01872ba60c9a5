from __future__ import annotations

import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import pretextkit as pk
from pretextkit.data import FolderImages, as_source, load
from pretextkit.errors import DataError, DataWarning
from pretextkit.functional import knn_probe, pretrain

CLASSES = ("cat", "dog")


def draw(folder: Path, count: int, color: int = 200) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        Image.new("RGB", (8, 8), (color, i, 0)).save(folder / f"{i}.png")


def pets(root: Path, **counts: int) -> Path:
    for part, count in counts.items():
        for color, name in zip((100, 200), CLASSES, strict=True):
            draw(root / part / name, count, color)
    return root


def test_load_reads_script_of_train_and_val(tmp_path: Path) -> None:
    data = load(pets(tmp_path / "pets", train=20, val=8), size=8)
    assert data.class_names == CLASSES
    assert repr(data) == "ImageData(pets: 40 train and 16 test images of 3x8x8, 2 classes)"


@pytest.mark.parametrize("train", ["train", "Training", "TRAIN", "training_set", "train2017"])
@pytest.mark.parametrize("validation", ["val", "Valid", "validation", "DEV"])
@pytest.mark.parametrize("test", ["test", "Testing", "eval", "test-images"])
@pytest.mark.parametrize("wrapped", [False, True])
def test_load_reads_names_of_three_splits(
    tmp_path: Path, train: str, validation: str, test: str, wrapped: bool
) -> None:
    pets(tmp_path / "archive" if wrapped else tmp_path, **{train: 3, validation: 2, test: 1})
    data = load(tmp_path, size=8)
    assert data.class_names == CLASSES
    assert data.validation is not None
    assert [len(part.images) for part in (data.train, data.validation, data.test)] == [6, 4, 2]
    assert data.validation.labels.tolist() == [0, 0, 1, 1]
    assert repr(data).endswith("6 train, 4 validation and 2 test images of 3x8x8, 2 classes)")
    assert len(as_source(tmp_path)) == 6


@pytest.mark.parametrize("name", ["train", "Test", "valid"])
def test_lone_split_is_read_as_root(tmp_path: Path, name: str) -> None:
    pets(tmp_path, **{name: 5})
    assert FolderImages(tmp_path, size=8).classes == CLASSES
    assert load(tmp_path, size=8).class_names == CLASSES
    assert len(as_source(tmp_path)) == 10


def test_flat_lone_split_has_no_classes(tmp_path: Path) -> None:
    draw(tmp_path / "train", 5)
    assert FolderImages(tmp_path).classes == ()


def test_folder_images_of_splits_names_them(tmp_path: Path) -> None:
    pets(tmp_path, train=2, val=1)
    with pytest.raises(DataError) as caught:
        FolderImages(tmp_path)
    train = str(tmp_path / "train")
    assert caught.value.text == (
        f"Expected one set of images in {tmp_path}, but got the splits train, val. "
        f"Read one with FolderImages({train!r}), or all with pretextkit.data.load({str(tmp_path)!r})."
    )
    assert len(FolderImages(train)) == 4
    assert len(load(tmp_path).train.images) == 4


def test_two_folders_of_one_part_are_refused(tmp_path: Path) -> None:
    pets(tmp_path, train=2, val=1, dev=1)
    for read in (load, FolderImages, as_source):
        with pytest.raises(DataError, match="but got dev and val, both of which mean validation"):
            read(tmp_path)


def test_splits_without_train_are_refused(tmp_path: Path) -> None:
    pets(tmp_path, test=2, val=1)
    for read in (load, as_source):
        with pytest.raises(DataError, match=r"Expected a training split in .*, but got test and val only"):
            read(tmp_path)


@pytest.mark.parametrize("names", [("bus", "car", "train"), ("bus", "test"), ("bus", "dev", "car")])
def test_class_with_name_of_split_stays_class(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        draw(tmp_path / name, 5)
    assert FolderImages(tmp_path).classes == tuple(sorted(names))
    assert load(tmp_path).class_names == tuple(sorted(names))


def test_class_train_within_splits_stays_class(tmp_path: Path) -> None:
    for name in ("bus", "train"):
        draw(tmp_path / "train" / name, 3)
    draw(tmp_path / "test" / "train", 2)
    data = load(tmp_path)
    assert (data.class_names, data.test_labels.tolist()) == (("bus", "train"), [1, 1])


def test_other_folder_beside_splits_warns(tmp_path: Path) -> None:
    pets(tmp_path, train=2, test=1, unlabeled=1)
    with pytest.warns(DataWarning, match="has the splits test, train; unlabeled beside them is not read"):
        assert load(tmp_path).class_names == CLASSES


def test_ground_truth_beside_splits_does_not_warn(tmp_path: Path) -> None:
    pets(tmp_path, train=2, test=1)
    draw(tmp_path / "ground_truth" / "hole", 2)
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "all.json").write_text("{}")
    assert load(tmp_path).class_names == CLASSES


def test_test_part_with_other_classes_matches_by_name(tmp_path: Path) -> None:
    pets(tmp_path, train=2, val=2)
    draw(tmp_path / "test" / "dog", 3)
    data = load(tmp_path)
    assert data.test_labels.tolist() == [1, 1, 1]


def test_pretrain_and_probe_read_training_split(tmp_path: Path) -> None:
    pets(tmp_path, train=6, val=3)
    task = pk.tasks.SimCLR(pk.models.SmallCNN())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a short run
        result = pretrain(task, tmp_path, steps=1, batch_size=4, progress=False)
    assert result.steps == 1
    mean = lambda images: images.mean((2, 3))  # noqa: E731
    assert len(knn_probe(mean, tmp_path, k=1).predictions) == 12


def test_npz_validation_part_is_kept(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 255, (6, 8, 8), np.uint8)
    parts = {f"{part}_images": images[:count] for part, count in (("train", 6), ("val", 4), ("test", 2))}
    np.savez(tmp_path / "a.npz", **parts)  # type: ignore[arg-type]
    data = load(tmp_path / "a.npz", size=4)
    assert data.validation is not None
    assert (len(data.test_images), data.validation.images.shape) == (2, torch.Size([4, 1, 4, 4]))
    del parts["test_images"]
    np.savez(tmp_path / "b.npz", **parts)  # type: ignore[arg-type]
    data = load(tmp_path / "b.npz")
    assert (data.validation, len(data.test_images), len(data.train_images)) == (None, 4, 6)


def test_splits_within_classes_warn(tmp_path: Path) -> None:
    for name in CLASSES:
        draw(tmp_path / name / "train", 4)
        draw(tmp_path / name / "test", 2)
    with pytest.warns(DataWarning, match=r"splits within the class folders of .* are read together"):
        assert FolderImages(tmp_path).classes == CLASSES


def test_deeper_folders_of_classes_do_not_warn(tmp_path: Path) -> None:
    for name in CLASSES:
        draw(tmp_path / name / "monday", 4)
        draw(tmp_path / name / "test", 2)
    assert FolderImages(tmp_path).classes == CLASSES


def follow(fix: str, pattern: str) -> str:
    """Take the path that the advice names out of its code."""
    found = re.search(pattern, fix)
    assert found is not None, fix
    return found[1]


def test_advice_for_splits_is_right_when_followed(tmp_path: Path) -> None:
    root = pets(tmp_path / "pets", train=4, test=2)
    with pytest.raises(DataError) as caught:
        FolderImages(root)
    assert len(FolderImages(follow(caught.value.fix, r"FolderImages\('([^']+)'\)"))) in (4, 8)
    assert len(load(follow(caught.value.fix, r"load\('([^']+)'\)"), size=8).train_images) == 8


def test_advice_without_train_is_right_when_followed(tmp_path: Path) -> None:
    root = pets(tmp_path / "pets", val=10, test=10)
    with pytest.raises(DataError) as caught:
        load(root)
    data = load(follow(caught.value.fix, r"load\('([^']+)'\)"), size=8)
    assert (len(data.train_images), len(data.test_images)) == (16, 4)
