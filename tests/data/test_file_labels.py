"""Labels of files: from folders, CSV files, mappings, functions and lists."""

from __future__ import annotations

import unicodedata
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pretextkit.data import CsvLabels, FolderImages, as_source
from pretextkit.errors import DataError, DataWarning, OptionError, ShapeError, UnknownNameError

NAMES = ("a.png", "2024/b.JPG", "2024/deep/c d.png", "é/dé.webp", "cat/1.png", "dog/1.png")


@pytest.fixture(name="root")
def make_root(tmp_path: Path) -> Path:
    """Make a folder of six images at three depths."""
    for name in NAMES:
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (200, 9, 9)).save(path)
    return tmp_path / "photos"


def by_name(images: FolderImages) -> dict[str, Any]:
    """Give the word (or number) of each labeled file by its path below the root."""
    words = {
        path.relative_to(images.root).as_posix(): label for path, label in zip(images.paths, images.labels, strict=True)
    }
    return {name: images.classes[label] if images.classes else label for name, label in words.items() if label >= 0}


def csv(root: Path, text: str, encoding: str = "utf-8") -> Path:
    path = root.parent / "labels.csv"
    path.write_bytes(text.encode(encoding))
    return path


PLAIN = {"a.png": "owl", "2024/b.JPG": "bat", "2024/deep/c d.png": "owl"}


@pytest.mark.parametrize("header", ["file,label\n", "filename,species\n", ""])
@pytest.mark.parametrize("end", ["\n", "\r\n", ""])
def test_csv_is_read_with_and_without_header(root: Path, header: str, end: str) -> None:
    text = header + "a.png,owl\n2024/b.JPG,bat\nc d.png,owl" + end
    images = FolderImages(root, labels=csv(root, text))
    assert by_name(images) == PLAIN
    assert images.classes == ("bat", "owl")
    assert sum(label == -1 for label in images.labels) == 3
    assert "6 images of 3x8x8, 2 classes, 3 labeled" in repr(images)


@pytest.mark.parametrize(
    "text",
    [
        "a.png;owl\nb.JPG;bat\nc d.png;owl\n",
        "a.png\towl\nb.JPG\tbat\nc d.png\towl\n",
        "owl,a.png\nbat,b.JPG\nowl,c d.png\n",
        "a,owl\nb,bat\nc d,owl\n",
        "A.PNG,owl\nb.jpg,bat\nC D.png,owl\n",
        "photos/a.png,owl\nphotos/2024/b.JPG,bat\ndeep/c d.png,owl\n",
        "photos\\a.png,owl\n2024\\b.JPG,bat\n.\\2024\\deep\\c d.png,owl\n",
        'x,file,label,y\n1,a.png,owl,"3,5"\n2,b.JPG,bat,1\n3,c d.png,owl,2\n',
        '"a.png", "owl"\n\n"b.JPG", " bat "\n"c d.png", "owl"\ncat/1.png,\ndog/1.png\n',
    ],
)
def test_csv_columns_delimiter_and_names_are_found(root: Path, text: str) -> None:
    assert by_name(FolderImages(root, labels=str(csv(root, text)))) == PLAIN


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_csv_with_accents_is_read_in_both_forms(root: Path, encoding: str, form: Any) -> None:
    text = unicodedata.normalize(form, "file;label\né/dé.webp;Mäuse\na;x\n")
    assert "Mäuse" in by_name(FolderImages(root, labels=csv(root, text, encoding))).values() or form == "NFD"
    assert "é/dé.webp" in by_name(FolderImages(root, labels=csv(root, text, encoding)))


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ("id,photo,animal\n0,a.png,owl\n1,b.JPG,bat\n2,c d.png,owl\n", "'animal'"),
        ("photo,id,animal\na.png,0,owl\nb.JPG,1,bat\n", "'animal'"),
        ("photo,note,animal\na.png,,owl\nb.JPG,,bat\n", "'animal'"),
        ("photo,author,animal,date\na.png,me,owl,1\nb.JPG,you,owl,2\n", "'animal'"),
        ("photo,id,number\na.png,0,7\nb.JPG,1,8\n", "'id'"),  # nothing looks like labels
    ],
)
def test_unclear_csv_offers_the_likely_column(root: Path, text: str, column: str) -> None:
    with pytest.raises(DataError, match=rf"label={column}\), or label="):
        FolderImages(root, labels=csv(root, text))


def spelled(root: Path, first: str, second: str) -> FolderImages:
    return FolderImages(root, labels=csv(root, f"file,label\na.png,{first}\nb.JPG,{second}\nc d.png,owl\n"))


def test_labels_that_differ_by_case_warn(root: Path) -> None:
    with pytest.warns(DataWarning, match=r"^The labels 'Bat' and 'bat' in .*labels.csv differ only by case"):
        assert spelled(root, "Bat", "bat").classes == ("Bat", "bat", "owl")


def test_folders_that_differ_by_case_warn(tmp_path: Path) -> None:
    for name in ("Cat", "cat", "dog"):
        (tmp_path / name).mkdir(exist_ok=True)
        Image.new("L", (8, 8), 200).save(tmp_path / name / "1.png")
    if len(list(tmp_path.iterdir())) < 3:
        pytest.skip("the disk takes names of two cases for one")
    with pytest.warns(DataWarning, match="The labels 'Cat' and 'cat' in"):
        FolderImages(tmp_path)


@pytest.mark.parametrize("names", [("bat", "bats"), ("a", "A"), ("bat", "bat"), ("bat 1", "bat-1")])
def test_labels_that_differ_otherwise_do_not_warn(root: Path, names: tuple[str, str]) -> None:
    assert set(spelled(root, *names).classes) == {*names, "owl"}


def test_csv_columns_can_be_named(root: Path) -> None:
    path = csv(root, "id,photo,weight,kind\n0,a.png,3,owl\n1,b.JPG,4,bat\n2,c d.png,5,owl\n")
    with pytest.raises(DataError, match=r"one column of labels .* got 4 columns, .* label='kind'\), or label=3"):
        FolderImages(root, labels=path)
    for label in ("kind", "KIND", 3):
        assert by_name(FolderImages(root, labels=CsvLabels(path, label=label))) == PLAIN
    assert by_name(FolderImages(root, labels=CsvLabels(path, file="photo", label="kind", header=True))) == PLAIN
    with pytest.raises(UnknownNameError, match=r"got 'kinds'. Did you mean 'kind'\? Known: id, photo"):
        FolderImages(root, labels=CsvLabels(path, label="kinds"))
    with pytest.raises(OptionError, match="a column from 0 to 3, but got 7"):
        FolderImages(root, labels=CsvLabels(path, label=7))
    with pytest.raises(OptionError, match="a delimiter of one character, but got ';;'"):
        FolderImages(root, labels=CsvLabels(path, delimiter=";;"))


def test_csv_beside_the_images_is_found(root: Path) -> None:
    csv(root, "a.png,owl\n").rename(root / "labels.csv")
    assert by_name(FolderImages(root, labels="labels.csv")) == {"a.png": "owl"}


def test_csv_numbers_are_names_in_order_of_numbers(root: Path) -> None:
    images = FolderImages(root, labels=csv(root, "a,10\nb,9\nc d,10\ncat/1,-1\n"))
    assert images.classes == ("9", "10")
    assert by_name(images) == {"a.png": "10", "2024/b.JPG": "9", "2024/deep/c d.png": "10"}


def test_unknown_names_give_one_warning_that_names_them(root: Path) -> None:
    path = csv(root, "file,label\na.png,owl\nlost.png,owl\nb,bat\nmissing,fox\n")
    with pytest.warns(
        DataWarning, match=r"2 of 4 names in .*labels.csv fit no image in .*: lost.png, missing\."
    ) as seen:
        images = FolderImages(root, labels=path)
    assert len(seen) == 1
    assert images.classes == ("bat", "owl")


def test_known_names_give_no_warning(root: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        FolderImages(root, labels=csv(root, "a.png,owl\n"))


def test_csv_without_a_label_gives_one_warning(root: Path) -> None:
    table = csv(root, "file,label\na.png,\n2024/b.JPG,-1\n")
    with pytest.warns(DataWarning, match=r"None of the 2 rows of .*labels\.csv has a label\.") as seen:
        images = FolderImages(root, labels=table)
    assert len(seen) == 1
    assert seen[0].filename == __file__
    assert set(images.labels) == {-1}


def test_names_that_all_are_unknown_raise_error_with_nearest(root: Path) -> None:
    with pytest.raises(DataError, match=r"got 2 that fit none, such as 'b.jpeg'. .* Did you mean 'b.JPG'\?"):
        FolderImages(root, labels=csv(root, "b.jpeg,bat\nq.png,owl\n"))
    with pytest.raises(DataError, match="at least one label in the mapping, but got none"):
        FolderImages(root, labels={})


def test_name_of_several_files_raises_error(root: Path) -> None:
    with pytest.raises(DataError, match=r"got '1.png', which fits cat/1.png and dog/1.png. Write the folder too"):
        FolderImages(root, labels={"1.png": "x"})
    assert by_name(FolderImages(root, labels={"dog/1": "x"})) == {"dog/1.png": "x"}


def test_path_below_root_wins_over_deeper_file(root: Path) -> None:
    Image.new("L", (8, 8), 200).save(root / "cat" / "a.png")
    assert by_name(FolderImages(root, labels={"a.png": "x"})) == {"a.png": "x"}


def test_two_labels_of_one_image_raise_error(root: Path) -> None:
    with pytest.raises(DataError, match=r"one label for each image .* got 'owl' and 'bat' for a.png"):
        FolderImages(root, labels=csv(root, "a.png,owl\na,bat\n"))
    assert by_name(FolderImages(root, labels=csv(root, "a.png,owl\na,owl\n"))) == {"a.png": "owl"}


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "a column of files and a column of labels in .*, but got an empty file"),
        (b"a.png\nb.JPG\n", "but got one column"),
        (b"a.png,\xff\xe4\n", "a text file in UTF-8 at .*, but got bytes of another kind at 6"),
        (b"PK\x03\x04\x00,\x00", "a text file at .*, but got a binary file"),
    ],
)
def test_other_file_for_labels_raises_error(root: Path, content: bytes, text: str) -> None:
    path = root.parent / "labels.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=text):
        FolderImages(root, labels=path)


def test_missing_csv_raises_error(root: Path) -> None:
    with pytest.raises(DataError, match=r"labels in a CSV file, here or in .*, but got no file 'lables.csv'"):
        FolderImages(root, labels="lables.csv")


@pytest.mark.parametrize(
    ("labels", "words", "classes"),
    [
        ({"a": "owl", Path("cat/1.png"): None, "b": float("nan")}, {"a.png": "owl"}, ("owl",)),
        (
            {"a": 7, "b": np.int64(2), "cat/1": -1, "dog/1": torch.tensor(0)},
            {"a.png": 7, "2024/b.JPG": 2, "dog/1.png": 0},
            (),
        ),
        (
            lambda path: path.parent.name if path.stem == "1" else None,
            {"cat/1.png": "cat", "dog/1.png": "dog"},
            ("cat", "dog"),
        ),
        (False, {}, ()),
        (None, {}, ()),
        (
            "folders",
            {
                "2024/b.JPG": "2024",
                "2024/deep/c d.png": "2024",
                "é/dé.webp": "é",
                "cat/1.png": "cat",
                "dog/1.png": "dog",
            },
            ("2024", "cat", "dog", "é"),
        ),
    ],
)
def test_labels_of_every_form_are_read(
    root: Path, labels: Any, words: dict[str, Any], classes: tuple[str, ...]
) -> None:
    images = FolderImages(root, labels=labels)
    assert by_name(images) == words
    assert images.classes == classes


@pytest.mark.parametrize(
    ("labels", "error", "text"),
    [
        ({"a": "owl", "b": 3}, DataError, "words or numbers as labels in the mapping, but got 'owl' and 3"),
        ({"a": 0.5}, DataError, "a word or an integer as label in the mapping, but got 0.5"),
        ({"a": -2}, DataError, "labels >= 0 in the mapping, or -1 for unlabeled images, but got -2"),
        (["owl"] * 6, DataError, "a list of labels beside a list of files"),
        (3, DataError, 'labels "folders", the path of a CSV file, .* but got int'),
    ],
)
def test_wrong_labels_raise_error(root: Path, labels: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        FolderImages(root, labels=labels)


def test_folders_as_labels_without_folders_raise_error(root: Path) -> None:
    with pytest.raises(
        DataError, match=r"folders of classes in .*, but got images directly in it alone. Name the class"
    ):
        FolderImages(root / "cat", labels="folders")


def test_list_of_paths_keeps_its_order_and_labels(root: Path) -> None:
    paths: list[Path | str] = [root / "dog/1.png", str(root / "a.png"), root / "dog/1.png"]
    images = FolderImages(paths, labels=["dog", "", "dog"])
    assert [path.name for path in images.paths] == ["1.png", "a.png", "1.png"]
    assert images.labels == (0, -1, 0)
    assert FolderImages(paths).labels == (-1, -1, -1)
    assert FolderImages(paths, labels="folders").classes == ("dog",)
    with pytest.raises(ShapeError, match="as many labels as files, but got 1 labels for 3 files"):
        FolderImages(paths, labels=["dog"])
    with pytest.raises(DataError, match=r"paths of image files in a list, but got 'nowhere.png': no file"):
        FolderImages([root / "a.png", "nowhere.png"])
    with pytest.raises(DataError, match="but got an empty list"):
        FolderImages([])


def test_pattern_reads_matching_files(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(FolderImages(f"{root}/**/*")) == 6
    images = FolderImages(f"{root}/*/1.png", labels="folders")
    assert by_name(images) == {"cat/1.png": "cat", "dog/1.png": "dog"}
    assert FolderImages(f"{root}/*/1.png").labels == (-1, -1)
    assert len(as_source(f"{root}/*/1.png")) == 2
    with pytest.raises(DataError, match=r"images that match .*, but got no file. Check the pattern"):
        FolderImages(f"{root}/*.tga")
    (root / "x [1]").mkdir()
    Image.new("L", (8, 8), 200).save(root / "x [1]" / "a.png")
    assert len(FolderImages(root / "x [1]")) == 1
    monkeypatch.chdir(root)
    assert len(FolderImages("*.png")) == 1
    assert FolderImages(["a.png", "cat/1.png"], labels="folders").labels == (-1, 0)


@pytest.mark.parametrize(
    "labels", [{"a": "owl", "b": "bat"}, lambda path: {"a": "owl", "b": "bat"}.get(path.stem), "labels.csv"]
)
def test_pair_of_folder_and_labels_is_read(root: Path, labels: Any) -> None:
    csv(root, "a,owl\nb,bat\n").rename(root / "labels.csv")
    for source in (as_source((root, labels)), as_source(root, labels), as_source((root, labels), workers=1)):
        assert source.class_names == ("bat", "owl")
        (batch,) = source.in_order(8)
        assert batch.labels is not None
        assert batch.labels.sort().values.tolist() == [-1] * 4 + [0, 1]
    assert next(as_source((root, labels), labels=False).in_order(8)).labels is None


@pytest.mark.parametrize("make", [lambda root: FolderImages(root), lambda root: root])
def test_pair_of_folder_images_and_words_is_read(root: Path, make: Callable[[Path], Any]) -> None:
    source = as_source((make(root), ["owl", "bat", "", "owl", "bat", "bat"]))
    assert source.class_names == ("bat", "owl")
    assert next(source.in_order(8)).labels.tolist() == [1, 0, -1, 1, 0, 0]  # type: ignore[union-attr]
