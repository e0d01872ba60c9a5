from __future__ import annotations

import random
from typing import Any, NamedTuple

import pytest
import torch
from torch import Generator, Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from pretextkit.data._dataset_images import DatasetImages
from pretextkit.data._loader_images import LoaderImages
from pretextkit.data._sources import ImageSource
from pretextkit.data._tensor_images import TensorImages
from pretextkit.training._identity import run_identity
from pretextkit.training._settings import Settings, make_plan

IMAGES = torch.rand(12, 1, 2, 2, generator=Generator().manual_seed(0))


class Pair(NamedTuple):
    one: int
    other: int


class Options(nn.Module):
    """A task with options of every kind."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)
        for name, value in options.items():
            setattr(self, name, value)


def identity(module: nn.Module | None = None, source: ImageSource | None = None, **options: Any) -> dict[str, Any]:
    source = TensorImages(IMAGES) if source is None else source
    settings = Settings(**{"epochs": 1, "batch_size": 4, **options})
    return run_identity(Options() if module is None else module, source, settings, make_plan(settings, source), "fp32")


def different(one: dict[str, Any], other: dict[str, Any]) -> set[str]:
    return {name for name in {**one, **other} if one.get(name) != other.get(name)}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (0.1, 0.5),
        ("a", "b"),
        ((0.2, 1.0), (0.1, 1.0)),
        (None, 1),
        (Pair(1, 2), Pair(2, 1)),
        (None, Pair(1, 2)),
        (1, 1.5),
    ],
)
def test_identity_includes_task_options(one: Any, other: Any) -> None:
    assert different(identity(Options(option=one)), identity(Options(option=other))) == {"task.option"}
    assert different(identity(Options(option=one)), identity(Options(option=one))) == set()


def test_identity_includes_accumulate_above_one() -> None:
    assert "accumulate" not in identity()  # as in checkpoints of versions without accumulate
    assert different(identity(), identity(accumulate=2)) == {"accumulate"}


def test_identity_excludes_private_attributes_and_objects() -> None:
    assert different(identity(Options(_private=1, objects=(object(),)).eval()), identity()) == set()


def test_identity_includes_lists_and_names_of_functions() -> None:
    assert different(identity(Options(function=len, array=[1])), identity()) == {"task.function", "task.array"}
    assert different(identity(Options(function=len)), identity(Options(function=max))) == {"task.function"}


def test_identity_includes_the_first_images() -> None:
    changed = IMAGES.clone()
    changed[7, 0, 1, 1] = 1 - changed[7, 0, 1, 1]
    for other in (changed, IMAGES.flip(3), IMAGES.view(12, 1, 1, 4), (IMAGES * 255).byte()):
        assert different(identity(), identity(source=TensorImages(other))) == {"first images"}


def test_identity_ignores_labels_and_kind_of_source() -> None:
    for source in (TensorImages(IMAGES, torch.arange(12)), DatasetImages(TensorDataset(IMAGES))):
        assert different(identity(), identity(source=source)) == set()


def test_identity_includes_all_of_few_images() -> None:
    one, other = (TensorImages(images) for images in (IMAGES[:2], IMAGES[[0, 2]]))
    assert different(identity(source=one, batch_size=1), identity(source=other, batch_size=1)) == {"first images"}


def test_identity_ignores_images_of_a_loader() -> None:
    sources = [LoaderImages(DataLoader(TensorDataset(images), batch_size=4)) for images in (IMAGES, IMAGES.flip(0))]
    assert different(*(identity(source=source) for source in sources)) == set()


class Noisy(Dataset[Tensor]):
    """Random transforms with a given source of random numbers."""

    def __init__(self, draw: Any) -> None:
        self.draw = draw

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> Tensor:
        return torch.full((1, 2, 2), float(self.draw()))


def test_fingerprint_repeats_random_transforms_and_restores_rng() -> None:
    source = DatasetImages(Noisy(lambda: torch.rand(())))
    task = Options()
    before = torch.get_rng_state()
    one = identity(task, source)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(5)
    assert different(one, identity(source=source)) == set()
    assert one["first images"] is not None


def test_identity_ignores_images_that_never_repeat() -> None:
    draw = random.Random(0).random
    assert different(*(identity(source=DatasetImages(Noisy(draw))) for _ in range(2))) == set()


def test_identity_includes_weight_shapes() -> None:
    one, other = nn.Sequential(nn.Linear(2, 2)), nn.Sequential(nn.Linear(2, 3, bias=False))
    assert different(identity(one), identity(other)) == {"weight 0.weight", "weight 0.bias"}


def test_identity_ignores_device_and_compile() -> None:
    assert different(identity(device="cpu", compile=False), identity(device="meta", compile=True)) == set()
