from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image, features

from pretextkit.data import FolderImages, load
from pretextkit.data._file_listing import image_suffixes
from pretextkit.errors import DataError, DataWarning


def draw(path: Path, kind: str | None = None, color: tuple[int, int, int] = (200, 0, 0)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 40), color).save(path, format=kind)


def test_script_reads_every_class(tmp_path: Path) -> None:
    other = "avif" if features.check("avif") else "webp"
    for i in range(50):
        draw(tmp_path / f"cat/{i}.jfif", "JPEG")
        draw(tmp_path / f"dog/{i}.{'jpg' if i < 5 else other}")
        draw(tmp_path / f"owl/{i}.png")
    photos = FolderImages(tmp_path, size=32, on_error="skip")
    assert photos.classes == ("cat", "dog", "owl")
    assert [photos.labels.count(label) for label in range(3)] == [50] * 3
    assert photos.skipped == ()


@pytest.mark.parametrize("suffix", [".jfif", ".jpe", ".jp2", ".tga", ".JFIF", ".ico", ".pcx", ".qoi"])
def test_suffixes_of_pillow_are_read(tmp_path: Path, suffix: str) -> None:
    if suffix.lower() not in image_suffixes() or Image.registered_extensions().get(suffix.lower()) not in Image.SAVE:
        pytest.skip("this Pillow does not write the format")
    draw(tmp_path / f"a{suffix}")
    assert FolderImages(tmp_path)[0][0].float().mean((1, 2))[0] > 150


@pytest.mark.parametrize("names", [("cat/0.heic", "cat/1.heic"), ("cat/0", "cat/1"), ("cat/0.dcm",), ()])
def test_class_without_image_keeps_number_and_warns(tmp_path: Path, names: tuple[str, ...]) -> None:
    (tmp_path / "cat").mkdir()
    for name in names:
        (tmp_path / name).write_bytes(b"unknown")
    for i in range(30):
        draw(tmp_path / f"dog/{i}.png")
    with pytest.warns(DataWarning, match=r"No image is read for 1 of 2 classes in .*: cat \((has|is empty)"):
        photos = FolderImages(tmp_path)
    assert photos.classes == ("cat", "dog")
    assert set(photos.labels) == {1}
    assert {path.name for path, _ in photos.skipped} == {Path(name).name for name in names}


def test_class_of_damaged_files_keeps_number(tmp_path: Path) -> None:
    for i in range(5):
        draw(tmp_path / f"dog/{i}.png")
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "0.png").write_bytes(b"")
    with pytest.warns(DataWarning, match=r"cat \(has 1 \.png\)"):
        photos = FolderImages(tmp_path, on_error="skip")
    assert (photos.classes, photos.labels) == (("cat", "dog"), (1,) * 5)


def test_many_unknown_files_are_counted_in_one_warning(tmp_path: Path) -> None:
    for i in range(10):
        draw(tmp_path / f"{i}.png")
        (tmp_path / f"{i}.HEIC").write_bytes(b"heic")
        (tmp_path / f"{i}.nef").write_bytes(b"nef")
    with pytest.warns(
        DataWarning, match=r"20 files in .* are not read beside 10 images: 10 \.heic, 10 \.nef"
    ) as caught:
        photos = FolderImages(tmp_path)
    assert len(caught) == 1
    assert len(photos.skipped) == 20
    assert photos.skipped[0][1] == "the suffix .heic is of no image"
    assert "0 skipped, not read: 10 .heic, 10 .nef)" in repr(photos)


@pytest.mark.parametrize("beside", ["{i}.txt", "{i}.json", "{i}.xml"])
def test_notes_beside_images_do_not_warn(tmp_path: Path, beside: str) -> None:
    for i in range(10):
        draw(tmp_path / f"cat/{i}.png")
        (tmp_path / "cat" / beside.format(i=i)).write_text("0 0.5 0.5 1 1")
    (tmp_path / "README").write_text("about")
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "all.json").write_text("{}")
    (tmp_path / "cat" / "Thumbs.db").write_bytes(b"")
    (tmp_path / "cat" / ".DS_Store").write_bytes(b"")
    photos = FolderImages(tmp_path)
    assert photos.classes == ("cat",)
    assert len(photos.skipped) == 12
    assert repr(photos).startswith(f"FolderImages({tmp_path}: 10 images of 3x40x40, 1 classes, 0 skipped, not read: 1")


def test_single_unknown_file_does_not_warn(tmp_path: Path) -> None:
    for i in range(3):
        draw(tmp_path / f"{i}.png")
    (tmp_path / "all.zip").write_bytes(b"PK")
    assert len(FolderImages(tmp_path).skipped) == 1


def test_folder_linked_twice_is_reported(tmp_path: Path) -> None:
    draw(tmp_path / "cat" / "0.png")
    (tmp_path / "dog").symlink_to(tmp_path / "cat")
    with pytest.warns(DataWarning, match="1 of 2 classes in .*: dog"):
        photos = FolderImages(tmp_path)
    assert photos.classes == ("cat", "dog")
    assert photos.skipped == ((tmp_path / "dog", "a link to a folder that is read already"),)


def test_folder_without_images_counts_what_it_has(tmp_path: Path) -> None:
    (tmp_path / "a.heic").write_bytes(b"heic")
    with pytest.raises(DataError, match=r"but got 1 \.heic and no image file\. Convert the files to PNG"):
        FolderImages(tmp_path)


def test_load_lists_files_passed_over(tmp_path: Path) -> None:
    for part in ("train", "test"):
        for i in range(3):
            draw(tmp_path / part / "cat" / f"{i}.png")
        (tmp_path / part / "list.txt").write_text("")
    assert {path.name for path, _ in load(tmp_path).skipped} == {"list.txt"}
