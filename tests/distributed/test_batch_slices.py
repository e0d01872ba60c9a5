from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator, Tensor
from torch.utils._pytree import tree_leaves

import pretextkit as pk
from pretextkit.distributed._batch_slices import BatchSlice, SlicedRandom
from pretextkit.testing import toy_images
from tests.helpers import toy_task


def part(draw: Callable[[int, Generator], Any], share: BatchSlice, images: int) -> Any:
    generator, own = Generator().manual_seed(0), Generator().manual_seed(100 + share.part)
    with SlicedRandom(generator, own, share, images):
        return draw(images, generator)


def parts(draw: Callable[[int, Generator], Any], count: int, images: int) -> list[Any]:
    return [part(draw, BatchSlice(each, count), images) for each in range(count)]


DRAWS: dict[str, Callable[[int, Generator], Tensor]] = {
    "sizes": lambda n, g: torch.rand(n, 2, generator=g),
    "a size": lambda n, g: torch.randn((n,), generator=g),
    "a shape": lambda n, g: torch.randn(torch.zeros(n, 3, 2).shape, generator=g),
    "by name": lambda n, g: torch.rand(size=(n, 3), generator=g, dtype=torch.float64),
    "below": lambda n, g: torch.randint(1000, (n,), generator=g),
    "between": lambda n, g: torch.randint(-5, 1000, (n, 2), generator=g),
    "between, by name": lambda n, g: torch.randint(3, 1000, size=[n], generator=g),
    "three for each": lambda n, g: torch.rand(3 * n, 2, generator=g),
    "one after another": lambda n, g: torch.rand(n, generator=g) + torch.randint(9, (n,), generator=g),
}


@pytest.mark.parametrize("name", DRAWS)
@given(count=st.integers(1, 5), images=st.integers(1, 6))
def test_slices_draw_the_numbers_of_the_full_batch(name: str, count: int, images: int) -> None:
    full = DRAWS[name](count * images, Generator().manual_seed(0))
    assert torch.equal(torch.cat(parts(DRAWS[name], count, images)), full)


OTHERS: dict[str, Callable[[int, Generator], Tensor]] = {
    "one for all": lambda n, g: torch.rand((), generator=g),
    "no multiple": lambda n, g: torch.rand(n + 1, generator=g),
    "in place": lambda n, g: torch.empty(n).uniform_(generator=g),
    "another function": lambda n, g: torch.normal(0.0, 1.0, (n,), generator=g),
    "an order": lambda n, g: torch.randperm(1000, generator=g),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_draws_differ_between_slices(name: str) -> None:
    one, other = parts(OTHERS[name], 2, 3)
    assert not torch.equal(one, other)
    assert torch.equal(part(OTHERS[name], BatchSlice(0, 2), 3), one)


def test_other_generators_and_functions_are_unchanged() -> None:
    other = Generator().manual_seed(1)
    expected = torch.rand(4, generator=Generator().manual_seed(1))
    with SlicedRandom(Generator(), Generator(), BatchSlice(1, 2), 4), torch.random.fork_rng(devices=[]):
        assert torch.equal(torch.rand(4, generator=other), expected)
        torch.manual_seed(1)
        assert torch.equal(torch.rand(4), expected)
        assert torch.zeros(4).sum() == 0


@pytest.mark.parametrize("name", list(pk.pretext_tasks))
def test_views_of_slices_match_the_full_batch(name: str) -> None:
    task: Any = toy_task(name)
    images = toy_images(6, generator=Generator().manual_seed(0))
    halves = [
        part(lambda n, g, rows=rows: task.views(rows, g), BatchSlice(each, 2), 3)  # type: ignore[misc]
        for each, rows in enumerate(images.chunk(2))
    ]
    full = task.views(images, Generator().manual_seed(0))
    for one, other, both in zip(*map(tree_leaves, (*halves, full)), strict=True):
        rows = {tuple(row.flatten().tolist()) for row in both}  # rotations come angle by angle
        assert all(tuple(row.flatten().tolist()) in rows for row in torch.cat([one, other]))
        assert len(one) == len(other) == len(both) // 2
