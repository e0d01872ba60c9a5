from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pretextkit._seeding import derived_generator, derived_seed, hash_seed, seed_layers, seeded_everywhere

seeds = st.integers(0, 2**40)
purposes = st.text("abcdef", max_size=8)
steps = st.integers(0, 10**9)


@given(seeds, purposes, steps)
def test_derived_seed_is_a_repeatable_63_bit_number(seed: int, purpose: str, step: int) -> None:
    assert 0 <= derived_seed(seed, purpose, step) < 2**63
    assert derived_seed(seed, purpose, step) == derived_seed(seed, purpose, step)


def test_derived_seed_is_stable_between_releases() -> None:
    # Another process may resume a checkpoint, which Python's salted hash() would break.
    assert derived_seed(0, "views", 7) == 2_904_575_737_887_441_604


@given(st.lists(st.tuples(seeds, purposes, steps), unique=True, max_size=20))
def test_derived_seed_differs_for_each_argument(keys: list[tuple[int, str, int]]) -> None:
    assert len({derived_seed(*key) for key in keys}) == len(keys)


def test_derived_seed_separates_its_arguments() -> None:
    assert derived_seed(1, "", 11) != derived_seed(11, "", 1)


def test_generators_of_neighboring_steps_are_unrelated() -> None:
    draws = torch.stack([torch.randn(1000, generator=derived_generator(0, "views", step)) for step in range(20)])
    related = torch.corrcoef(draws).fill_diagonal_(0).abs().max()
    assert related < 0.15


def test_derived_generator_keeps_global_generators() -> None:
    before = torch.get_rng_state(), random.getstate()
    torch.rand(3, generator=derived_generator(0, "views"))
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == random.getstate()


def test_seed_layers_depends_on_seed_and_step() -> None:
    def drawn(seed: int, step: int) -> float:
        seed_layers(torch.device("cpu"), seed, step)
        return torch.rand(()).item()

    with torch.random.fork_rng(devices=[]):
        assert drawn(0, 7) == drawn(0, 7)
        assert len({drawn(0, 7), drawn(0, 8), drawn(1, 7)}) == 3


def test_seed_layers_on_cpu_keeps_gpu_generators(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a GPU was seeded")

    for module, name in ((torch.cuda, "manual_seed"), (torch.cuda, "manual_seed_all"), (torch.mps, "manual_seed")):
        monkeypatch.setattr(module, name, refuse)
    with torch.random.fork_rng(devices=[]):
        seed_layers(torch.device("cpu"), 0, 0)


def test_derived_seed_is_the_hash_of_its_arguments() -> None:
    assert derived_seed(1, "views", 2) == hash_seed(1, "views", 2)
    assert hash_seed(0, [3, 4]) != hash_seed(0, [3], [4])


def test_seeded_everywhere_repeats_and_restores_all_generators() -> None:
    def draws() -> tuple[float, float, float]:
        return torch.rand(()).item(), random.random(), np.random.rand()  # noqa: NPY002

    with seeded_everywhere(2**40):
        first = draws()
        outer = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index] # noqa: NPY002
        with seeded_everywhere(2**40):
            assert draws() == first
        assert torch.equal(torch.get_rng_state(), outer[0])
        assert (random.getstate(), np.random.get_state()[1].tolist()) == outer[1:]  # type: ignore[index] # noqa: NPY002
