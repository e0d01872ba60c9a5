from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, DataLoader, Subset, TensorDataset

from pretextkit.data import FolderImages, ImageSource, as_source


class Named(TensorDataset):
    def __init__(self, classes: Any) -> None:
        super().__init__(torch.rand(4, 3, 8, 8), torch.arange(4) % 2)
        self.classes = classes


class Own(ImageSource):
    def __len__(self) -> int:
        return 2

    def batches(self, order: Any) -> Any:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("data", "names"),
    [
        (Named(["cat", "dog"]), ("cat", "dog")),
        (Subset(Named(["cat", "dog"]), [1, 0]), ("cat", "dog")),
        (Subset(Subset(Named(("cat", "dog")), [1, 0]), [0]), ("cat", "dog")),
        (ConcatDataset([Named(["cat", "dog"]), Subset(Named(["cat", "dog"]), [0])]), ("cat", "dog")),
        (ConcatDataset([Named(["cat", "dog"]), TensorDataset(torch.rand(1, 3, 8, 8))]), None),
        (DataLoader(Named(["cat", "dog"]), batch_size=2), ("cat", "dog")),
        (Named([("tench", "Tinca tinca"), ("dog",)]), ("tench, Tinca tinca", "dog")),
        (Named(10), None),
        (Named([0, 1]), None),
        (Named([]), None),
        (TensorDataset(torch.rand(1, 3, 8, 8)), None),
        (torch.rand(2, 3, 8, 8), None),
        (Own(), None),
    ],
)
def test_class_names_of_sources(data: Any, names: tuple[str, ...] | None) -> None:
    assert as_source(data).class_names == names


def test_class_names_of_paths(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / "train" / name).mkdir(parents=True)
        Image.new("L", (8, 8), 99).save(tmp_path / "train" / name / "a.png")
    for data in (tmp_path, tmp_path / "train", FolderImages(tmp_path)):
        assert as_source(data).class_names == ("cat", "dog")
    np.savez(tmp_path / "a.npz", train_images=np.full((3, 8, 8), 99, np.uint8), class_names=["a", "b"])
    assert as_source(tmp_path / "a.npz").class_names == ("a", "b")
    assert as_source(tmp_path / "a.npz").without_labels() is not None


@pytest.mark.filterwarnings("ignore:No image is read:pretextkit.errors.DataWarning")
def test_folders_read_apart_share_numbers_with_empty_class(tmp_path: Path) -> None:
    for part, names in (("train", ("apple", "leaf", "sky")), ("test", ("apple", "sky"))):
        for name in ("apple", "leaf", "sky"):
            (tmp_path / part / name).mkdir(parents=True)
            if name in names:
                Image.new("L", (8, 8), 99).save(tmp_path / part / name / "a.png")
    train, test = FolderImages(tmp_path / "train"), FolderImages(tmp_path / "test")
    assert train.classes == test.classes == ("apple", "leaf", "sky")
    assert (train.labels, test.labels) == ((0, 1, 2), (0, 2))
