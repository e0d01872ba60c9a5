from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from pretextkit.errors import DataError, OptionError, ShapeError
from pretextkit.evaluation import _neighbor_search as knn
from pretextkit.functional import knn_probe

IDENTITY = nn.Identity()


def clouds(n: int, seed: int, classes: int = 3, d: int = 5, noise: float = 1.0) -> tuple[Tensor, Tensor]:
    generator = Generator().manual_seed(seed)
    labels = torch.arange(n) % classes
    centers = 2 * torch.eye(classes, d)
    return centers[labels] + noise * torch.randn(n, d, generator=generator), labels


def cosine(a: list[float], b: list[float]) -> float:
    product = sum(x * y for x, y in zip(a, b, strict=True))
    return product / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


def votes_by_loops(
    train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor] | None, k: int, temperature: float
) -> list[int]:
    reference, labels = (part.double().tolist() for part in train)
    queries = reference if test is None else test[0].double().tolist()
    predictions = []
    for i, query in enumerate(queries):
        similar = [(cosine(query, other), int(label)) for other, label in zip(reference, labels, strict=True)]
        if test is None:
            del similar[i]
        similar.sort(key=lambda pair: -pair[0])
        votes = [0.0] * (int(max(labels)) + 1)
        for similarity, label in similar[:k]:
            votes[label] += math.exp(similarity / temperature)
        predictions.append(votes.index(max(votes)))
    return predictions


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 10**6),
    k=st.integers(1, 40),
    temperature=st.sampled_from([0.02, 0.07, 0.5, 5.0]),
    alone=st.booleans(),
    chunk=st.integers(1, 30),
    reference=st.integers(1, 30),
)
def test_predictions_equal_a_loop_for_any_chunk_size(
    seed: int, k: int, temperature: float, alone: bool, chunk: int, reference: int
) -> None:
    train, other = clouds(25, seed), clouds(13, seed + 1)
    test = None if alone else other
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(knn, "QUERY_CHUNK", chunk)
        patch.setattr(knn, "REFERENCE_CHUNK", reference)
        result = knn_probe(IDENTITY, train, test, k=k, temperature=temperature)
    expected = votes_by_loops(train, test, k, temperature)
    targets = train[1] if alone else other[1]
    assert result.predictions.tolist() == expected
    assert result.accuracy == pytest.approx(
        sum(p == t for p, t in zip(expected, targets.tolist(), strict=True)) / len(targets)
    )
    assert torch.equal(result.targets, targets)
    assert result.k == min(k, 24 if alone else 25)


@given(
    rows=st.integers(1, 4),
    columns=st.integers(1, 300),
    k=st.integers(1, 6),
    seed=st.integers(0, 10**6),
    ties=st.booleans(),
)
def test_grouped_topk_equals_topk(rows: int, columns: int, k: int, seed: int, ties: bool) -> None:
    values = torch.randn(rows, columns, generator=Generator().manual_seed(seed))
    values = values.round() if ties else values
    k = min(k, columns)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(knn, "FEWEST_COLUMNS", 0)  # groups pay on long rows only
        found, where = knn.grouped_topk(values, k)
    assert torch.equal(found, values.topk(k).values)
    assert torch.equal(values.gather(1, where), found)
    assert all(len(set(row)) == k for row in where.tolist())


def test_leave_one_out_never_finds_the_query_itself() -> None:
    # The nearest neighbor of each image has the other label: only the image itself would be correct.
    features = torch.tensor([[1.0, 0.0], [1.0, 0.01], [0.0, 1.0], [0.01, 1.0]])
    labels = torch.tensor([0, 1, 0, 1])
    train = (features, labels)
    for test in (None, train, (features, labels)):
        assert knn_probe(IDENTITY, train, test, k=1).accuracy == 0.0
    loader: DataLoader[Any] = DataLoader(TensorDataset(torch.rand(6, 1, 4, 4), torch.arange(6) % 2), batch_size=4)
    flat = nn.Flatten()
    assert knn_probe(flat, loader, loader).accuracy == knn_probe(flat, loader).accuracy
    # A copy is another object: each row finds its original.
    assert knn_probe(IDENTITY, train, (features.clone(), labels.clone()), k=1).accuracy == 1.0


def test_predictions_ignore_the_norm_of_features() -> None:
    train, test = clouds(30, 0), clouds(20, 1)
    scaled = (train[0] * torch.linspace(0.01, 100, 30)[:, None], train[1])
    one, other = knn_probe(IDENTITY, train, test), knn_probe(IDENTITY, scaled, test)
    assert torch.equal(one.predictions, other.predictions)


def test_small_temperature_equals_nearest_neighbor() -> None:
    train, test = clouds(30, 0), clouds(40, 1)
    nearest = knn_probe(IDENTITY, train, test, k=1)
    for temperature in (1e-2, 1e-4, 1e-6):
        few = knn_probe(IDENTITY, train, test, k=3, temperature=temperature)
        agreement = (few.predictions == nearest.predictions).float().mean()
        assert agreement > (0.85 if temperature == 1e-2 else 0.97)


def test_large_temperature_equals_majority_vote() -> None:
    features = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    train = (features, torch.tensor([0, 1, 1]))
    query = (torch.tensor([[1.0, 0.1]]), torch.tensor([0]))
    assert knn_probe(IDENTITY, train, query, k=3, temperature=0.07).predictions.tolist() == [0]
    assert knn_probe(IDENTITY, train, query, k=3, temperature=1e6).predictions.tolist() == [1]


def test_unlabeled_images_neither_vote_nor_score() -> None:
    (features, labels), (others, _) = clouds(30, 0), clouds(30, 1)
    some = labels.clone()
    some[::3] = -1  # two labeled classes remain
    some = torch.where(some > 0, some - 1, some)
    keep = some >= 0
    one = knn_probe(IDENTITY, (features, some), (others, some), k=5)
    other = knn_probe(IDENTITY, (features[keep], some[keep]), (others[keep], some[keep]), k=5)
    assert len(one.predictions) == 20
    assert torch.equal(one.predictions, other.predictions)


def test_zero_features_give_finite_predictions() -> None:
    features, labels = clouds(10, 0, classes=2)
    features[:2] = 0
    assert len(knn_probe(IDENTITY, (features, labels)).predictions) == 10


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            {"k": 0},
            "Expected k to be an integer >= 1, but got 0. Leave k out to choose it by the size of classes.",
        ),
        (
            {"k": -1},
            "Expected k to be an integer >= 1, but got -1. Leave k out to choose it by the size of classes.",
        ),
        ({"temperature": 0.0}, "Expected temperature to be a number in (0, inf), but got 0.0. The default is 0.07."),
        (
            {"temperature": math.nan},
            "Expected temperature to be a number in (0, inf), but got nan. The default is 0.07.",
        ),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(OptionError) as caught:
        knn_probe(IDENTITY, clouds(10, 0), **options)
    assert caught.value.text == text


def test_invalid_labels_are_refused() -> None:
    features, labels = clouds(9, 0)
    cases: list[tuple[Any, Any, str]] = [
        (features[:, :3, None, None].expand(-1, -1, 2, 2).sigmoid(), None, "Expected labels for train, but got none."),
        ((features, labels * 0), None, "Expected at least 2 classes, but got class 0 only."),
        ((features, labels * 2), None, "Expected labels 0 to 2 for 3 classes, but got labels up to 4 without 1, 3."),
        (
            (features, labels % 2),
            clouds(8, 1),
            "Expected test labels 0 to 1, the classes of train, but got label 2.",
        ),
    ]
    for train, test, text in cases:
        with pytest.raises(DataError) as caught:
            knn_probe(nn.Flatten(), train, test)
        assert str(caught.value).startswith(text)


def test_features_of_different_width_are_refused() -> None:
    features, labels = clouds(9, 0)
    with pytest.raises(ShapeError) as caught:
        knn_probe(IDENTITY, (features, labels), (features[:, 1:], labels))
    width = features.shape[1]
    assert caught.value.text == (
        f"Expected features of equal width from layer 'last' on train and test, but got {width} and {width - 1}. "
        "Give the model images of one size, or pass features of one width."
    )


def test_result_prints_one_line_and_keeps_global_rng() -> None:
    state = torch.get_rng_state()
    assert str(knn_probe(IDENTITY, clouds(30, 0, noise=0.01), k=5)) == ("5-NN probe: 100.0% (95% interval 88.6-100.0)")
    assert torch.equal(state, torch.get_rng_state())
