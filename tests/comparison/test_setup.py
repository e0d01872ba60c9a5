from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from pretextkit import Recommended
from pretextkit.comparison._setup import ExperimentSetup
from pretextkit.errors import OptionError, UnknownNameError
from pretextkit.testing import toy_images

IMAGES, LABELS = toy_images(24, size=16, generator=torch.Generator().manual_seed(0)), torch.arange(24) % 3


def setup(labels: Tensor = LABELS, **options: Any) -> ExperimentSetup:
    values: dict[str, Any] = {
        "train": (IMAGES, labels),
        "test": (IMAGES[:6], LABELS[:6]),
        "images": None,
        "epochs": 2,
        "views_per_image": None,
        "batch_size": 8,
        "seeds": (0,),
        "label_fractions": (0.5, 1.0),
        "finetune_steps": 3,
        "pretraining": {},
        "finetuning": {},
        "precision": "fp32",
        "device": "cpu",
    }
    return ExperimentSetup(**{**values, **options})


def test_batch_size_is_at_most_the_number_of_images() -> None:
    assert setup(batch_size=100).pretraining_batch(Recommended()) == 24
    assert setup(batch_size=100).supervised_batch() == 24


def test_batch_size_is_the_recommended_one_by_default() -> None:
    assert setup(batch_size=None).pretraining_batch(Recommended(smallest_batch=4)) == 4
    assert setup(batch_size=4).pretraining_batch(Recommended(smallest_batch=8)) == 4


@pytest.mark.parametrize(("epochs", "steps"), [(1, 50), (200, 200), (10_000, 600)])
def test_finetunings_read_at_most_the_budget(epochs: int, steps: int) -> None:
    found = setup(epochs=epochs, finetune_steps=None, label_fractions=(0.5, 1.0))
    assert found.finetuning_steps(12) == steps  # batches of 12
    read = sum(found.finetuning_steps(count) * found.finetuning_batch(count) for count in found.label_counts)
    assert read <= max(24 * epochs, 50 * (12 + 24))


def test_finetuning_steps_of_the_call_are_kept() -> None:
    assert setup(finetune_steps=700).finetuning_steps(12) == 700


def test_label_counts_are_fractions_of_labeled_images() -> None:
    labels = LABELS.clone()
    labels[12:] = -1
    found = setup(labels, label_fractions=(0.01, 0.5, 1.0))
    assert found.label_counts == [3, 6, 12]  # at least one label per class
    assert (len(found.source), len(found.train_set)) == (24, 12)


@pytest.mark.parametrize(("views", "steps"), [(1, 24), (2, 12), (4, 6), (1000, 1)])
def test_pretraining_steps_divide_the_budget_by_views(views: float, steps: int) -> None:
    assert setup(epochs=None, views_per_image=8).pretraining_steps(views, 8) == steps
    assert setup(epochs=8).pretraining_steps(views, 8) == 24


def test_labeled_subset_is_stratified_and_equal_per_seed() -> None:
    one, other = setup(), setup()
    assert one.labeled_subset(6, 0).labels.bincount().tolist() == [2, 2, 2]  # type: ignore[union-attr]
    assert torch.equal(one.labeled_subset(6, 0).images, other.labeled_subset(6, 0).images)
    assert not torch.equal(one.labeled_subset(6, 0).images, one.labeled_subset(6, 1).images)


@pytest.mark.parametrize(
    "change",
    [
        {"labels": LABELS.roll(1)},
        {"test": (IMAGES[:9], LABELS[:9])},
        {"images": IMAGES[:12]},
        {"epochs": 3},
        {"batch_size": 4},
        {"pretraining": {"optimizer": "sgd"}},
        {"finetuning": {"layer_decay": 0.5}},
    ],
)
def test_identity_changes_with_data_budget_and_options(change: dict[str, Any]) -> None:
    assert setup().identity() == setup(seeds=(4, 5)).identity()
    assert setup(**change).identity() != setup().identity()


def test_functions_in_options_are_described_by_name() -> None:
    assert setup(finetuning={"augment": toy_images}).identity()["finetuning"] == {"augment": "toy_images"}


def test_invalid_setup_is_refused() -> None:
    with pytest.raises(OptionError, match=r"Expected distinct seeds, but got \[1, 1\]\. For example seeds=\(0, 1, 2\)"):
        setup(seeds=(1, 1))
    with pytest.raises(UnknownNameError, match="Did you mean 'learning_rate'"):
        setup(pretraining={"learningrate": 0.1})
    with pytest.raises(UnknownNameError, match="an option in finetuning, but got 'warmup'"):
        setup(finetuning={"warmup": 0.1})
