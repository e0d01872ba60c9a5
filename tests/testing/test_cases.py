from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from pretextkit.batches import PatchPair, TwoViews
from pretextkit.errors import ShapeError
from pretextkit.testing import TinyBackbone
from pretextkit.testing._cases import TaskCase, global_rng_states, global_seed, map_tensors, same, tensors

from .toy_tasks import ToyContrast


def test_map_tensors_keeps_the_types_of_nested_batches() -> None:
    one, two = torch.ones(1), torch.ones(2)
    batch = {"pair": TwoViews(one, two), "list": [one, (two, 3)]}
    assert [len(tensor) for tensor in tensors(batch)] == [1, 2, 1, 2]
    doubled = map_tensors(lambda tensor: 2 * tensor, batch)
    assert isinstance(doubled["pair"], TwoViews)
    assert isinstance(doubled["list"], list)
    assert doubled["list"][1][1] == 3
    assert all((tensor == 2).all() for tensor in tensors(doubled))


def test_same_compares_shapes_values_and_nan() -> None:
    nan = torch.tensor([torch.nan, 1.0])
    assert same((nan,), (nan.clone(),))
    assert not same((nan,), (torch.tensor([0.0, 1.0]),))
    assert not same((nan,), (nan[None],))
    assert not same((nan,), (nan, nan))
    assert not same((torch.zeros(1),), (torch.full((1,), 1e-6),))
    assert same((torch.zeros(1),), (torch.full((1,), 1e-6),), tolerance=1e-5)


@pytest.mark.parametrize(
    ("library", "draw"),
    [("torch", lambda: torch.rand(1)), ("numpy", lambda: np.random.rand()), ("Python", random.random)],  # noqa: NPY002
)
def test_global_seed_restores_every_global_rng(library: str, draw: object) -> None:
    assert callable(draw)
    before = global_rng_states()
    with global_seed(0):
        draw()
        inside = draw()
        assert global_rng_states()[library] != before[library]
    assert global_rng_states() == before
    with global_seed(0):
        draw()
        assert draw() == inside


def test_task_case_seeds_the_weights() -> None:
    case = TaskCase(lambda: ToyContrast(TinyBackbone()))
    first, second, other = (list(case.task(seed).parameters()) for seed in (0, 0, 1))
    assert same(first, second)
    assert not same(first, other)


def test_map_tensors_keeps_field_names() -> None:
    pair = map_tensors(torch.clone, PatchPair(torch.ones(1), torch.ones(1), torch.ones(1)))
    assert pair._fields == ("center", "neighbor", "position")


def test_step_accepts_every_dtype_and_refuses_wrong_ranks() -> None:
    # The contract ensures this for every task, so the kit does not check it for each.
    task = TaskCase(lambda: ToyContrast(TinyBackbone())).task()
    levels = torch.randint(256, (4, 3, 16, 16), generator=torch.Generator().manual_seed(0))
    images = [levels.float() / 255, levels.to(torch.uint8), levels.double() / 255]
    losses = [task.step(batch, torch.Generator().manual_seed(0)).loss.item() for batch in images]
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-4)
    for wrong in (images[0][0], images[0][:, 0], images[0][None], images[0].permute(0, 2, 3, 1)):
        with pytest.raises(ShapeError, match=r"^Expected images b c h w, but got shape \("):
            task.step(wrong, torch.Generator())
