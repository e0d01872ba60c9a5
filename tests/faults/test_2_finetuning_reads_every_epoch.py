"""Fine-tuning reads a dataset in every epoch, as pretraining does."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn
from torch.utils.data import DataLoader, Dataset

from pretextkit.errors import DataError
from pretextkit.functional import FinetuneResult, freeze_and_finetune

N, EPOCHS = 12, 4


class Random(Dataset[Any]):
    """A dataset with a random transform, which records its draws."""

    def __init__(self, *, random: bool = True, own: bool = False, unlabeled: bool = False) -> None:
        self.random, self.unlabeled = random, unlabeled
        self.generator = Generator() if own else None
        self.draws: list[list[float]] = [[] for _ in range(N)]

    def __len__(self) -> int:
        return N

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        draw = torch.rand((), generator=self.generator) if self.random else torch.ones(())
        self.draws[i].append(draw.item())
        return torch.full((3, 4, 4), (i + 1) / 20) * draw, -1 if self.unlabeled and i % 3 == 2 else i % 2


def tune(data: Any, *, trainable: Any = "all", **options: Any) -> tuple[FinetuneResult, nn.Module]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        backbone, head = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten()), nn.Linear(16, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = freeze_and_finetune(
            backbone,
            head,
            data,
            epochs=EPOCHS,
            batch_size=4,
            trainable=trainable,
            device="cpu",
            progress=False,
            **options,
        )
    return result, head


@pytest.mark.parametrize("trainable", ["all", "none"])
@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("held", ["set", "loader", "shuffled loader"])
def test_random_transforms_are_drawn_in_every_epoch(trainable: str, own: bool, held: str) -> None:
    data = Random(own=own)
    tune(data if held == "set" else DataLoader(data, 4, shuffle="shuffled" in held), trainable=trainable)
    assert all(len(set(draws)) >= EPOCHS for draws in data.draws)


def test_frozen_features_of_equal_images_are_computed_once() -> None:
    data = Random(random=False)
    tune(data, trainable="none")
    assert max(map(len, data.draws)) <= 4 < 2 + EPOCHS  # labels, features, the check of the head, the format


@pytest.mark.parametrize("trainable", ["all", "none"])
def test_data_set_without_random_transforms_equals_tensors(trainable: str) -> None:
    data = Random(random=False)
    tensors = torch.stack([data[i][0] for i in range(N)]), torch.arange(N) % 2
    _, one = tune(data, trainable=trainable)
    _, other = tune(tensors, trainable=trainable)
    torch.testing.assert_close(one.state_dict(), other.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize("trainable", ["all", "none"])
def test_workers_draw_the_same_and_history_does_not_matter(trainable: str) -> None:
    _, one = tune(Random(), trainable=trainable)
    torch.rand(7)
    _, other = tune(Random(), trainable=trainable, workers=2)
    torch.testing.assert_close(one.state_dict(), other.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize("held", ["set", "loader"])
def test_unlabeled_images_are_left_out_in_every_epoch(held: str) -> None:
    data = Random(unlabeled=True)
    result, head = tune(data if held == "set" else DataLoader(data, 3, shuffle=True))
    assert result.history.last["step"] == EPOCHS * 2  # 8 of 12 images have a label
    assert all(weight.isfinite().all() for weight in head.parameters())
    if held == "set":
        assert all(len(draws) == 1 for draws in data.draws[2::3])


def test_label_that_vanishes_later_is_refused() -> None:
    class Forgets(Random):
        def __getitem__(self, i: int) -> tuple[Tensor, int]:
            image, label = super().__getitem__(i)
            return image, label if len(self.draws[i]) == 1 else -1

    with pytest.raises(DataError) as caught:
        tune(Forgets())
    assert str(caught.value).startswith("Expected labels 0 to 1 in every epoch, as in the first reading, but got an")
