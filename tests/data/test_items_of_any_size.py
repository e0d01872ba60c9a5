"""Lists and datasets of items: words as labels, and sizes that differ."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, IterableDataset, Subset

import pretextkit as pk
from pretextkit.data import FolderImages, as_source, select_keys
from pretextkit.data._image_format import ImageFormat, in_format
from pretextkit.data._resizing import resize
from pretextkit.errors import DataError, OptionError, ShapeError
from pretextkit.functional import knn_probe, linear_probe, pretrain
from pretextkit.testing import TinyBackbone

SIZES = [(12, 16), (16, 12), (20, 20), (13, 30)]


def photo(number: int) -> Any:
    height, width = SIZES[number % 4]
    pixels = torch.randint(256, (height, width, 3), generator=torch.Generator().manual_seed(number), dtype=torch.uint8)
    return Image.fromarray(pixels.numpy())


PHOTOS = [photo(number) for number in range(12)]
WORDS = ["owl", "cat"] * 6
ROWS = [{"image": image, "label": word} for image, word in zip(PHOTOS, WORDS, strict=True)]


class Photos(Dataset[Any]):
    def __len__(self) -> int:
        return len(PHOTOS)

    def __getitem__(self, index: int) -> Any:
        return PHOTOS[index], index % 2


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter(Photos()[index] for index in range(len(PHOTOS)))

    def __len__(self) -> int:
        return len(PHOTOS)


def pixels(image: Any) -> torch.Tensor:
    return pk.data.as_source([image]).in_order(1).__next__().images


@pytest.mark.parametrize("images", [ROWS, PHOTOS, Photos(), Stream(), Subset(Photos(), range(12)), tuple(PHOTOS)])
def test_size_resizes_items_as_it_resizes_files(images: Any) -> None:
    batch = next(as_source(images, size=10).in_order(12))
    assert batch.images.shape == (12, 3, 10, 10)
    for image, found in zip(PHOTOS, batch.images, strict=True):
        assert torch.equal(found, resize(pixels(image), 10, "crop")[0])
    assert next(as_source(images, size=(6, 8), fit="pad").in_order(12)).images.shape == (12, 3, 6, 8)
    with pytest.raises(ShapeError, match=r"as_source\(dataset, size=\.\.\.\)"):
        next(as_source(images).in_order(12))


def test_labels_stay_beside_the_size() -> None:
    assert next(as_source(Photos(), size=10).in_order(12)).labels.tolist() == [0, 1] * 6  # type: ignore[union-attr]
    assert next(as_source((Photos(), WORDS), size=10).in_order(12)).labels.tolist() == [1, 0] * 6  # type: ignore[union-attr]
    assert as_source((Photos(), WORDS), size=10).class_names == ("cat", "owl")
    assert next(as_source(Photos(), labels=False, size=10).in_order(12)).labels is None


def test_words_in_a_list_are_classes() -> None:
    source = as_source([*ROWS[:3], {"image": PHOTOS[3], "label": None}], size=8)
    assert source.class_names == ("cat", "owl")
    assert next(source.in_order(4)).labels.tolist() == [1, 0, 1, -1]  # type: ignore[union-attr]
    renamed = [{"photo": row["image"], "bird": row["label"]} for row in ROWS]
    assert as_source(select_keys(renamed, image="photo", label="bird"), size=8).class_names == ("cat", "owl")


def test_words_in_a_column_are_classes_and_no_image_is_opened_for_them() -> None:
    class Column:
        """As Hugging Face's datasets: features with a dtype, columns by name, items by number."""

        opened = 0
        features: Any = {"image": None, "label": type("Value", (), {"dtype": "string"})()}  # noqa: RUF012

        def __len__(self) -> int:
            return len(ROWS)

        def __getitem__(self, key: Any) -> Any:
            if isinstance(key, str):
                return [row[key] for row in ROWS]
            type(self).opened += 1
            return ROWS[key]

    source = as_source(Column(), size=8)  # type: ignore[arg-type]
    assert source.class_names == ("cat", "owl")
    assert Column.opened == 0
    assert next(source.in_order(4)).labels.tolist() == [1, 0, 1, 0]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "pairs", [list(zip(PHOTOS, range(12), strict=True))[:2], list(zip(PHOTOS, WORDS, strict=True))]
)
def test_list_of_pairs_is_a_dataset(pairs: list[Any]) -> None:
    batch = next(as_source(pairs, size=8).in_order(len(pairs)))
    assert batch.images.shape == (len(pairs), 3, 8, 8)
    assert batch.labels is not None
    assert next(as_source(pairs, labels=False, size=8).in_order(2)).labels is None


def test_pair_of_images_and_labels_stays_a_pair() -> None:
    batch = next(as_source(([torch.rand(3, 8, 8), torch.rand(3, 8, 8)], [4, 5])).in_order(2))
    assert batch.labels is not None
    assert batch.labels.tolist() == [4, 5]


def test_whole_job_on_items_of_many_sizes() -> None:
    backbone = TinyBackbone()
    pretrain(pk.tasks.Rotation(backbone), ROWS, size=16, steps=2, batch_size=4, progress=False)
    probe = linear_probe(backbone, ROWS, size=16)
    classifier = probe.classifier
    assert classifier.class_names == ("cat", "owl")
    assert classifier.image_format is not None
    assert classifier.image_format.size == 16
    again = classifier.predict(PHOTOS)
    assert torch.equal(again.labels, classifier.predict(as_source(ROWS, size=16)).labels)
    assert knn_probe(backbone, ROWS, size=16).accuracy <= 1


def test_size_is_refused_where_nothing_can_be_resized(tmp_path: Any) -> None:
    with pytest.raises(OptionError, match="beside a dataset, but got Tensor"):
        as_source(torch.rand(4, 3, 8, 8), size=16)
    PHOTOS[0].save(tmp_path / "0.png")
    with pytest.raises(OptionError, match="Give it to FolderImages"):
        as_source(FolderImages(tmp_path), size=16)
    with pytest.raises(OptionError, match="on_error"):
        as_source(Photos(), on_error="skip")


def test_empty_list_says_so() -> None:
    with pytest.raises(DataError, match="got an empty list"):
        as_source([])


def test_keys_without_a_label_give_no_labels() -> None:
    rows = [{"photo": image, "x": 3, "label": "cat"} for image in PHOTOS]
    source = as_source(select_keys(rows, image="photo"), size=8)
    assert next(source.in_order(2)).labels is None
    assert source.class_names is None


def test_several_labels_are_an_error_only_where_labels_are_read() -> None:
    rows = [{"image": image, "label": 1, "target": 2} for image in PHOTOS]
    assert next(as_source(rows, labels=False, size=8).in_order(2)).labels is None
    assert next(as_source(rows, [0, 1] * 6, size=8).in_order(2)).labels.tolist() == [0, 1]  # type: ignore[union-attr]
    with pytest.raises(DataError, match="one label in an item"):
        next(as_source(rows, size=8).in_order(2))


def test_no_image_is_decoded_for_the_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any) -> Any:
        raise AssertionError("an image was opened")

    monkeypatch.setattr(Image, "open", never)
    assert as_source([{"image": b"bytes", "label": "cat"}] * 2, size=8).class_names == ("cat",)


@pytest.mark.parametrize("pair", [True, False])
def test_numbers_that_are_texts_are_numbers_unless_one_is_a_word(pair: bool) -> None:
    def rows(*labels: str) -> list[Any]:
        items = zip(PHOTOS, labels, strict=False)
        return [(image, label) if pair else {"image": image, "label": label} for image, label in items]

    numbers = as_source(rows("9", "10", "2"), size=8)
    assert numbers.class_names is None
    assert next(numbers.in_order(3)).labels.tolist() == [9, 10, 2]  # type: ignore[union-attr]
    assert as_source(rows("9", "cat", "2"), size=8).class_names == ("2", "9", "cat")


@pytest.mark.parametrize("images", [ROWS, list(zip(PHOTOS, WORDS, strict=True)), PHOTOS])
def test_labels_may_stand_beside_any_list(images: list[Any]) -> None:
    batch = next(as_source((images, range(12)), size=8).in_order(12))
    assert batch.labels is not None
    assert batch.labels.tolist() == list(range(12))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64, torch.uint16])
def test_depths_are_checked_before_they_are_resized(dtype: torch.dtype) -> None:
    images = torch.utils.data.TensorDataset(torch.ones(3, 1, 8, 8).to(dtype))
    if dtype == torch.uint16:
        with pytest.raises(DataError, match="uint16"):
            next(as_source(images, size=4).in_order(3))
    else:
        assert next(as_source(images, size=4).in_order(3)).images.dtype == torch.float32


def test_sources_are_resized_too() -> None:
    for source in (pk.data.StreamImages(Stream()), pk.data.DatasetImages(Photos())):
        assert next(as_source(source, size=8).in_order(3)).images.shape == (3, 3, 8, 8)
    assert next(as_source(PHOTOS[0], size=8).in_order(1)).images.shape == (1, 3, 8, 8)
    loader = torch.utils.data.DataLoader(Photos())
    with pytest.raises(OptionError, match="let the dataset do it"):
        as_source(loader, size=8)


def test_resized_images_get_another_size_from_their_own_pixels() -> None:
    wanted = ImageFormat(16, 16, 3)
    small = next(in_format(as_source(PHOTOS, size=6), wanted).in_order(12)).images
    assert torch.equal(small, next(in_format(as_source(PHOTOS), wanted).in_order(12)).images)
