"""Fault 2 in ``compare``, which holds its images in memory: random transforms of a dataset would stand still."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset

from pretextkit.data import as_source
from pretextkit.errors import DataWarning
from pretextkit.functional import compare
from pretextkit.testing import TinyBackbone
from tests.helpers import random_images

IMAGES, LABELS = random_images(16), torch.arange(16) % 2
TEST = random_images(16, seed=1), LABELS
OPTIONS: dict[str, Any] = {
    "epochs": 1,
    "batch_size": 8,
    "label_fractions": (),
    "device": "cpu",
    "progress": False,
}


class Transformed(Dataset[Any]):
    """Images with random brightness."""

    def __len__(self) -> int:
        return len(IMAGES)

    def __getitem__(self, index: int) -> Any:
        return IMAGES[index] * (0.5 + 0.5 * torch.rand(())), int(LABELS[index])


@pytest.mark.parametrize("holder", [lambda data: data, lambda data: DataLoader(data, 4, shuffle=True)])
def test_random_transforms_of_train_are_reported(holder: Any) -> None:
    with pytest.warns(DataWarning, match="compare reads train once"):
        compare([], TinyBackbone, holder(Transformed()), TEST, **OPTIONS)


@pytest.mark.parametrize(
    "train",
    [
        (IMAGES, LABELS),
        TensorDataset(IMAGES, LABELS),
        DataLoader(TensorDataset(IMAGES, LABELS), 4, shuffle=True),
    ],
    ids=["tensor", "dataset", "shuffled loader"],
)
def test_still_images_give_no_warning(train: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compare([], TinyBackbone, train, TEST, **OPTIONS)


@pytest.mark.parametrize("byte", [False, True])
def test_training_images_as_test_are_reported_once(byte: bool) -> None:
    test = ((IMAGES * 255).round().byte() if byte else IMAGES.clone()), LABELS
    train = (test[0].clone() if byte else IMAGES), LABELS
    with pytest.warns(DataWarning, match="test images are training images") as caught:
        compare([], TinyBackbone, train, test, **OPTIONS)
    (warning,) = caught
    assert str(warning.message).partition(" See ")[0].endswith("Pass other labeled images as test.")
    assert warning.filename == __file__


def test_transforms_are_found_without_a_trace_on_the_generator() -> None:
    before = torch.get_rng_state()
    assert as_source(Transformed()).draws_transforms()
    assert not as_source(TensorDataset(IMAGES, LABELS)).draws_transforms()
    assert torch.equal(before, torch.get_rng_state())
