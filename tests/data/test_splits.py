from __future__ import annotations

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from pretextkit.data import keep_labels, stratified_split, stratified_subset
from pretextkit.errors import DataError, OptionError

labelings = st.lists(st.integers(-1, 4), min_size=1, max_size=60)


@given(labels=labelings, data=st.data(), seed=st.integers(0, 3))
def test_stratified_subset_is_proportional(labels: list[int], data: st.DataObject, seed: int) -> None:
    tensor = torch.tensor(labels)
    sizes = {label: labels.count(label) for label in set(labels) - {-1}}
    total = sum(sizes.values())
    assume(total)
    count = data.draw(st.integers(len(sizes), total))
    chosen = stratified_subset(tensor, count, seed=seed)
    assert chosen.tolist() == sorted(set(chosen.tolist()))
    assert len(chosen) == count
    picked = tensor[chosen].tolist()
    assert set(picked) == set(sizes)
    raised = any(size * count < total for size in sizes.values())
    for label, size in sizes.items():
        # Each count is within one of its quota, except where a rare class is raised to one image.
        assert picked.count(label) <= size
        assert picked.count(label) <= max(1, size * count / total + 1)
        assert raised or picked.count(label) >= size * count / total - 1


@pytest.mark.parametrize(
    ("sizes", "count", "shares"),
    [
        ([60, 30, 10], 10, [6, 3, 1]),
        ([50, 30, 20], 7, [4, 2, 1]),  # quotas 3.5 2.1 1.4: the largest remainder is the first
        ([97, 2, 1], 3, [1, 1, 1]),
        ([97, 2, 1], 10, [8, 1, 1]),  # quotas 9.7 0.2 0.1
        ([3, 1], 4, [3, 1]),
    ],
)
def test_subset_uses_largest_remainder(sizes: list[int], count: int, shares: list[int]) -> None:
    labels = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    assert labels[stratified_subset(labels, count)].bincount().tolist() == shares


def test_732_of_ten_classes() -> None:
    labels = torch.arange(8001) % 10
    assert sorted(labels[stratified_subset(labels, 732)].bincount().tolist()) == [73] * 8 + [74] * 2


def test_split_depends_on_seed_alone() -> None:
    labels = torch.arange(200) % 4
    state = torch.get_rng_state()
    first = stratified_subset(labels, 20, seed=1)
    assert torch.equal(first, stratified_subset(labels, 20, seed=1))
    assert not torch.equal(first, stratified_subset(labels, 20, seed=2))
    assert not torch.equal(stratified_split(labels, 0.5, seed=1)[0], stratified_split(labels, 0.5, seed=2)[0])
    assert torch.equal(state, torch.get_rng_state())


def test_subset_is_random_within_class() -> None:
    labels = torch.zeros(1000, dtype=torch.int64)
    assert 400 < stratified_subset(labels, 500).double().mean() < 600
    assert stratified_subset(labels, 500).max() > 900


@pytest.mark.parametrize("count", [1, 4, 0, -1])
def test_subset_of_impossible_count_raises_error(count: int) -> None:
    text = rf"Expected a count from 2 \(one for each class\) to 3 \(all that are labeled\), but got {count}\. Choose"
    with pytest.raises(DataError, match=text):
        stratified_subset([0, 0, 1, -1], count)


@given(labels=labelings, fraction=st.floats(0.01, 0.99), seed=st.integers(0, 3))
def test_stratified_split_is_disjoint_and_complete(labels: list[int], fraction: float, seed: int) -> None:
    tensor = torch.tensor(labels)
    assume((tensor >= 0).any())
    first, second = stratified_split(tensor, fraction, seed=seed)
    assert sorted(first.tolist() + second.tolist()) == (tensor >= 0).nonzero().flatten().tolist()
    for part in (first, second):
        assert part.tolist() == sorted(part.tolist())
    for label in set(labels) - {-1}:
        size, in_first = labels.count(label), tensor[first].tolist().count(label)
        assert in_first >= 1
        assert in_first == 1 or abs(in_first - fraction * size) <= 0.5


def test_stratified_split_puts_single_image_first() -> None:
    first, second = stratified_split([0, 1, 1, 1, 1], 0.5)
    assert 0 in first
    assert len(second) == 2


@pytest.mark.parametrize("fraction", [0, 1, -0.5, 1.5, float("nan")])
def test_split_fraction_outside_range_raises_error(fraction: float) -> None:
    with pytest.raises(
        OptionError, match=r"Expected fraction to be a number in \(0, 1\), but got .*\. 0\.8 puts four fifths"
    ):
        stratified_split([0, 1], fraction)


def test_subset_without_labels_raises_error() -> None:
    with pytest.raises(DataError, match="Expected labeled images, but got labels that are all -1"):
        stratified_split([-1, -1], 0.5)
    with pytest.raises(DataError, match="Expected labeled images, but got labels that are all -1"):
        stratified_subset([-1, -1], 0)


def test_keep_labels_hides_the_rest_of_a_copy() -> None:
    labels = torch.arange(100) % 5
    before = labels.clone()
    kept = keep_labels(labels, 20, seed=3)
    assert torch.equal(labels, before)
    chosen = stratified_subset(labels, 20, seed=3)
    assert torch.equal((kept >= 0).nonzero().flatten(), chosen)
    assert torch.equal(kept[chosen], labels[chosen])
    assert kept[kept >= 0].bincount().tolist() == [4] * 5
