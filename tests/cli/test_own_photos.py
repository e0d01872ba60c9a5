"""The story of an untidy folder: the folder itself, and the page in Python and by commands."""

from __future__ import annotations

import csv
import os
import shlex
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

from pretextkit.cli import main
from pretextkit.data import FolderImages
from pretextkit.errors import DataError, DataWarning
from tests.helpers import ROOT, load_script
from tests.test_docs import code

PAGE = (ROOT / "docs/tutorial/own-photos.md").read_text("utf-8")

SHORT = {  # in the commands, what the marks of the page say for its Python blocks
    "--epochs 20": "--steps 2 --batch-size 16",
    "finetune photos": "finetune photos --steps 2",
}


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    return load_script("examples/untidy_folder.py")


def make(maker: ModuleType, folder: Path) -> Path:
    maker.make_untidy_folder(folder, classes=3, photos=30, labels=15, new=8)
    return folder


def mode_of(path: Path) -> str:
    with Image.open(path) as image:
        return str(image.mode)


def test_untidy_folder_is_read_as_a_person_expects(maker: ModuleType, tmp_path: Path) -> None:
    make(maker, tmp_path)
    names = r"2 of 17 names in .*labels\.csv fit no image in .*photos: IMG_9998\.jpg, IMG_9999\.jpg\."
    with pytest.warns(DataWarning, match=names):
        photos = FolderImages(tmp_path / "photos", labels=tmp_path / "labels.csv", on_error="skip")
    assert len(photos) == 29
    assert sum(label >= 0 for label in photos.labels) == 15
    assert {path.suffix for path in photos.paths} == {suffix for suffix, _ in maker.KINDS}
    assert {mode_of(path) for path in photos.paths} >= {"RGB", "RGBA", "L", "CMYK", "P"}
    assert len({path.parent for path in photos.paths}) == len(maker.FOLDERS)
    assert [path.name for path, _ in photos.skipped] == ["IMG 0000.jpg", "notes.txt"]
    with (tmp_path / "labels.csv").open(encoding="utf-8", newline="") as file:
        words = {Path(row["file"]).name: row["class"] for row in csv.DictReader(file)}
    for path, label in zip(photos.paths, photos.labels, strict=True):
        assert label < 0 or photos.classes[label] == words[path.name]


def test_untidy_folder_with_its_damaged_file_is_refused(maker: ModuleType, tmp_path: Path) -> None:
    make(maker, tmp_path)
    damaged = tmp_path / "photos" / "IMG 0000.jpg"
    with pytest.raises(DataError, match=r"IMG 0000\.jpg"):
        FolderImages([damaged])[0]


def test_classes_are_the_first(maker: ModuleType, tmp_path: Path) -> None:
    maker.make_untidy_folder(tmp_path, classes=2, photos=30, labels=10, new=10)
    for name in ("labels.csv", "truth.csv"):
        with (tmp_path / name).open(encoding="utf-8", newline="") as file:
            assert {row["class"] for row in csv.DictReader(file)} == {"T-shirt/top", "Trouser"}


def outcome(folder: Path) -> dict[str, str]:
    return {name: (folder / name).read_text("utf-8") for name in ("predictions.csv",)}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:2 of 17 names in labels.csv fit no image")
def test_page_gives_equal_predictions_in_python_and_by_commands(
    maker: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    os.chdir(make(maker, tmp_path / "python"))
    exec(compile(code(PAGE), "page", "exec"), {"__name__": "__main__"})
    by_python = outcome(tmp_path / "python")
    os.chdir(make(maker, tmp_path / "commands"))
    status = {}
    for name, block in load_script("scripts/walkthrough.py").commands(PAGE).items():
        for line in block.replace("\\\n", "").splitlines():
            for long, short in SHORT.items():
                line = line.replace(long, short)
            program, *words = shlex.split(line)
            if program == "pretextkit" and "*" not in line:
                status[name] = main(words)
    assert {name for name, code in status.items() if code} == {"damaged"}
    assert outcome(tmp_path / "commands") == by_python
