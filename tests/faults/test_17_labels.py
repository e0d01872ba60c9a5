from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset

from pretextkit.data import FolderImages, as_source, check_labels, load
from pretextkit.errors import DataError, ShapeError
from pretextkit.functional import knn_probe, linear_probe

NAMES = ["owl", "cat", "dog"]


def labels_of(data: Any, labels: Any = None) -> list[int]:
    batches = list(as_source(data, labels).in_order(4))
    assert all(batch.labels is not None for batch in batches)
    return [label for batch in batches if batch.labels is not None for label in batch.labels.tolist()]


def folder(root: Path, count: int = 6) -> Path:
    for i in range(count):
        Image.new("RGB", (8, 8), (200, i, 0)).save(root / f"{i}.png")
    return root


def test_script_loads_medmnist_file(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 255, (100, 28, 28, 3), np.uint8)
    labels = (np.arange(100) % 9).astype(np.uint8)[:, None]
    parts: Any = {f"{part}_images": images for part in ("train", "val", "test")}
    parts |= {f"{part}_labels": labels for part in ("train", "val", "test")}
    np.savez(tmp_path / "pathmnist.npz", **parts)
    data = load(tmp_path / "pathmnist.npz")
    assert repr(data) == "ImageData(pathmnist: 100 train, 100 validation and 100 test images of 3x28x28, 9 classes)"
    assert data.validation is not None
    for part in (data.train, data.validation, data.test):
        assert part.labels.tolist() == labels[:, 0].tolist()
    assert labels_of(tmp_path / "pathmnist.npz") == labels[:, 0].tolist()


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.int32])
def test_column_of_labels_is_squeezed(dtype: torch.dtype) -> None:
    column = torch.tensor([[2], [0], [1]], dtype=dtype)
    for labels in (column, column.numpy(), column.tolist()):
        assert check_labels(labels, 3).tolist() == [2, 0, 1]
    loader = DataLoader(TensorDataset(torch.rand(3, 1, 8, 8), column), batch_size=2)
    assert labels_of(loader) == [2, 0, 1]


@pytest.mark.parametrize("dtype", [torch.int64, torch.float32, torch.bool])
def test_one_hot_rows_are_read(dtype: torch.dtype) -> None:
    assert check_labels(torch.eye(4)[[3, 0, 2]].to(dtype), 3).tolist() == [3, 0, 2]


@pytest.mark.parametrize(
    "labels", [[[1, 0, 1]], [[0, 0, 0]], [[2, 0, 0]], [[0.5, 0.5, 0.0]], [[1, -1, 0]], [[4, 7, 9]]]
)
def test_several_labels_an_image_are_refused(labels: Any) -> None:
    with pytest.raises((ShapeError, DataError)) as caught:
        check_labels(torch.tensor(labels * 3), 3)
    if not isinstance(labels[0][0], float):
        assert "several labels an image (multi-label) are not supported, but got shape (3, 3)" in str(caught.value)


def test_mask_as_label_is_refused() -> None:
    with pytest.raises(ShapeError, match="Use segmentation_probe for a class per pixel"):
        check_labels(torch.zeros(3, 8, 8, dtype=torch.int64), 3)


@pytest.mark.parametrize("kind", [list, tuple, np.array, lambda x: np.array(x)[:, None], lambda x: np.array(x, object)])
def test_text_labels_are_numbered_by_name(kind: Any) -> None:
    source = as_source(torch.rand(3, 1, 8, 8), kind(NAMES))
    assert source.class_names == ("cat", "dog", "owl")
    assert labels_of((torch.rand(3, 1, 8, 8), kind(NAMES))) == [2, 0, 1]


def test_bytes_and_missing_texts(tmp_path: Path) -> None:
    assert labels_of(torch.rand(3, 1, 8, 8), np.array([b"b", b"a", b"b"])) == [1, 0, 1]
    assert labels_of(torch.rand(3, 1, 8, 8), ["b", "", "a"]) == [1, -1, 0]
    with pytest.raises(ShapeError, match="2 labels for 3 images"):
        as_source(torch.rand(3, 1, 8, 8), ["b", "a"])


def test_probe_takes_text_labels() -> None:
    images = torch.eye(3).repeat(6, 1)[:, :, None, None].expand(-1, 3, 4, 4).contiguous()
    texts = NAMES * 6
    assert linear_probe(lambda x: x.mean((2, 3)), (images, texts)).accuracy == 1.0
    assert knn_probe(lambda x: x.mean((2, 3)), (images, texts), k=1).accuracy == 1.0


def test_npz_text_labels_share_one_numbering(tmp_path: Path) -> None:
    images = np.full((3, 8, 8), 99, np.uint8)
    np.savez(
        tmp_path / "a.npz", train_images=images, train_labels=NAMES, test_images=images[:2], test_labels=["dog", "owl"]
    )
    data = load(tmp_path / "a.npz")
    assert (data.class_names, data.train_labels.tolist()) == (("cat", "dog", "owl"), [2, 0, 1])
    assert data.test_labels.tolist() == [1, 2]
    np.savez(tmp_path / "b.npz", train_images=images, train_labels=NAMES, class_names=["dog", "cat"])
    with pytest.raises(DataError, match="labels among the class names dog, cat, but got 'owl'"):
        load(tmp_path / "b.npz")


@pytest.mark.parametrize("form", ["path", "FolderImages", "dataset", "files", "PIL", "tensors"])
@pytest.mark.parametrize("labels", [[0, 1, 2, 0, 1, 2], ["a", "b", "c"] * 2, np.arange(6)[:, None] % 3])
def test_labels_beside_anything_indexed(tmp_path: Path, form: str, labels: Any) -> None:
    folder(tmp_path)
    files = sorted(tmp_path.iterdir())
    data: Any = {
        "path": str(tmp_path),
        "FolderImages": FolderImages(tmp_path),
        "dataset": TensorDataset(torch.rand(6, 3, 8, 8), torch.full((6,), 7)),
        "files": files,
        "PIL": [Image.new("RGB", (8, 8), (200, i, 0)) for i in range(6)],
        "tensors": [torch.rand(3, 8, 8) for _ in files],
    }[form]
    assert labels_of((data, labels)) == labels_of(data, labels) == [0, 1, 2, 0, 1, 2]
    assert as_source(data, labels).class_names == (("a", "b", "c") if isinstance(labels[0], str) else None)
    assert knn_probe(lambda x: x.mean((2, 3)), (data, labels), k=1).predictions.shape == (6,)


def test_labels_beside_loader_are_refused(tmp_path: Path) -> None:
    loader = DataLoader(TensorDataset(torch.rand(3, 1, 8, 8)))
    with pytest.raises(DataError, match="but got labels beside LoaderImages, which decides the order"):
        as_source(loader, [0, 1, 2])
    with pytest.raises(ShapeError, match="5 labels for 6 images"):
        as_source(folder(tmp_path), [0] * 5)


def test_text_labels_of_one_batch_are_refused() -> None:
    items = [(torch.rand(1, 8, 8), name) for name in NAMES]
    with pytest.raises(DataError, match=r"Expected integer labels, but got .*names = sorted"):
        next(as_source(items_dataset(items)).in_order(2))


def items_dataset(items: list[Any]) -> Any:
    class Items(TensorDataset):
        def __getitem__(self, index: int) -> Any:
            return items[index]

    return Items(torch.zeros(len(items)))
