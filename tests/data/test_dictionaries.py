"""Items that are dictionaries, with the real packages ``datasets`` and ``webdataset``."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, DataLoader, Subset, random_split

from pretextkit.data import StreamImages, as_source, select_keys
from pretextkit.data._items import image_and_label
from pretextkit.errors import DataError
from pretextkit.functional import knn_probe, pretrain
from pretextkit.models import SmallCNN
from pretextkit.tasks import Rotation

COUNT = 12


def picture(number: int) -> Image.Image:
    return Image.new("RGB", (16, 16), (20 * number, 255 - 20 * number, 99))


def labels_of(source: Any) -> list[int]:
    (batch,) = as_source(source).in_order(COUNT)
    assert batch.labels is not None
    return list(batch.labels.tolist())


@pytest.fixture(name="face", scope="module")
def make_hugging_face_dataset() -> Any:
    datasets = pytest.importorskip("datasets", reason="needs the package datasets")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog", "owl"])})
    columns = {"image": [picture(i) for i in range(COUNT)], "label": [i % 3 for i in range(COUNT)]}
    return datasets.Dataset.from_dict(columns, features=features)


def test_hugging_face_dataset_is_read_as_it_is(face: Any) -> None:
    source = as_source(face)
    assert source.class_names == ("cat", "dog", "owl")
    (batch,) = source.in_order(COUNT)
    assert batch.images.shape == (COUNT, 3, 16, 16)
    assert batch.images[5, :, 0, 0].tolist() == [100, 155, 99]
    assert labels_of(face) == [i % 3 for i in range(COUNT)]
    task = Rotation(SmallCNN())
    assert pretrain(task, face, steps=1, batch_size=4, progress=False).steps == 1
    assert knn_probe(task.backbone, face, k=1).accuracy >= 0


@pytest.mark.parametrize(
    "part",
    [
        lambda data: Subset(data, range(6)),
        lambda data: random_split(data, [6, 6], generator=torch.Generator().manual_seed(0))[0],
        lambda data: ConcatDataset([Subset(data, range(3)), data.select(range(3, 6))]),
        lambda data: DataLoader(data, batch_size=2, sampler=range(6)),
    ],
)
def test_parts_of_hugging_face_dataset_keep_names(face: Any, part: Any) -> None:
    source = as_source(part(face))
    assert source.class_names == ("cat", "dog", "owl")
    assert len(source) == 6
    assert sum(len(batch.images) for batch in source.in_order(4)) == 6


def test_hugging_face_stream_is_read(face: Any) -> None:
    stream = face.to_iterable_dataset()
    source = StreamImages(stream, length=COUNT)
    assert source.class_names == ("cat", "dog", "owl")
    assert labels_of(source) == [i % 3 for i in range(COUNT)]


def test_parts_dictionary_of_hugging_face_raises_clear_error(face: Any) -> None:
    datasets = pytest.importorskip("datasets", reason="needs the package datasets")
    parts: Any = datasets.DatasetDict({"train": face, "test": face})
    with pytest.raises(DataError, match=r"Pass one of its parts: images\['train'\]\."):
        as_source(parts)


def test_select_keys_names_image_and_label(face: Any) -> None:
    other = face.rename_columns({"image": "photo", "label": "animal"})
    with pytest.raises(
        DataError, match=r"an item with an image, but got the keys photo, animal. Name it with .*select"
    ):
        next(as_source(other).in_order(2))
    chosen = select_keys(other, image="photo", label="animal")
    assert as_source(chosen).class_names == ("cat", "dog", "owl")
    assert as_source(Subset(chosen, [0])).class_names == ("cat", "dog", "owl")
    assert labels_of(chosen) == [i % 3 for i in range(COUNT)]
    assert next(as_source(select_keys(other, image="photo")).in_order(COUNT)).labels is None
    with pytest.raises(DataError, match=r"the key 'picture' in each item, but got the keys photo, animal"):
        next(as_source(select_keys(other, image="picture")).in_order(2))
    with pytest.raises(DataError, match="a dataset with __len__"):
        select_keys(iter([1]), image="photo")


@pytest.fixture(name="shard")
def make_shard(tmp_path: Path) -> str:
    path = tmp_path / "shard.tar"
    with tarfile.open(path, "w") as tar:
        for i in range(COUNT):
            file = io.BytesIO()
            picture(i).save(file, "PNG")
            for suffix, content in (("png", file.getvalue()), ("cls", str(i % 3).encode()), ("json", b"{}")):
                member = tarfile.TarInfo(f"{i:04d}.{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return str(path)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # webdataset leaves its file open
@pytest.mark.parametrize("decoded", [False, True])
@pytest.mark.parametrize("workers", [0, 1])
def test_webdataset_samples_are_read_as_they_are(shard: str, decoded: bool, workers: int) -> None:
    webdataset = pytest.importorskip("webdataset", reason="needs the package webdataset")
    data = webdataset.WebDataset([shard], shardshuffle=False)
    data = data.decode("pil") if decoded else data
    source = StreamImages(data, length=COUNT, workers=workers)
    (batch,) = source.in_order(COUNT)
    assert batch.images[5, :, 0, 0].tolist() == [100, 155, 99]
    assert batch.labels is not None
    assert batch.labels.tolist() == [i % 3 for i in range(COUNT)]
    chosen = StreamImages(select_keys(data, image="png", label="cls"), length=COUNT)
    assert labels_of(chosen) == [i % 3 for i in range(COUNT)]


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        ({"image": 0, "label": 3}, (0, 3)),
        ({"text": "x", "IMG": 0, "cls": b"3"}, (0, 3)),
        ({"left.jpg": 0, "__key__": "a"}, (0, None)),
        ({"image": 0, "label": None}, (0, None)),
    ],
)
def test_keys_of_dictionary_are_found(item: Any, expected: Any) -> None:
    assert image_and_label(item) == expected


def test_ambiguous_or_damaged_dictionary_raises_error() -> None:
    with pytest.raises(DataError, match=r"one image in an item, but got the keys a.jpg, b.jpg. Name it with"):
        image_and_label({"a.jpg": 0, "b.jpg": 0})
    with pytest.raises(DataError, match="the bytes of an image file, but got UnidentifiedImageError"):
        image_and_label({"jpg": b"nothing"})


def test_hugging_face_photos_of_many_sizes_with_words_as_labels() -> None:
    datasets = pytest.importorskip("datasets", reason="needs the package datasets")
    photos = [Image.new("RGB", (20 + number, 24), (number * 20, 9, 200)) for number in range(6)]
    kinds = datasets.Features({"image": datasets.Image(), "label": datasets.Value("string")})
    dataset = datasets.Dataset.from_dict({"image": photos, "label": ["owl", "cat"] * 3}, features=kinds)
    source = as_source(dataset, size=16)
    assert source.class_names == ("cat", "owl")
    batch = next(source.in_order(6))
    assert batch.images.shape == (6, 3, 16, 16)
    assert batch.labels is not None
    assert batch.labels.tolist() == [1, 0] * 3
