"""Nearest neighbors and near duplicates: naive twins, files, and blocks instead of all similarities."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

from pretextkit.data import FolderImages
from pretextkit.errors import DataError, OptionError, ShapeError
from pretextkit.evaluation import _neighbor_search as search
from pretextkit.evaluation import _neighbors as neighbors
from pretextkit.functional import near_duplicates, nearest_neighbors
from pretextkit.testing import TinyBackbone
from tests.helpers import LargestTensor, normal, random_images

IDENTITY = nn.Identity()


def naive_distances(one: Tensor, other: Tensor) -> Tensor:
    """Cosine distances, one after the other."""
    rows = [[1 - nn.functional.cosine_similarity(a, b, dim=0).item() for b in other] for a in one]
    return torch.tensor(rows)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 12), st.integers(0, 99))
def test_neighbors_equal_a_naive_search(m: int, n: int, k: int, seed: int) -> None:
    queries, database = normal(m, 4, seed=seed), normal(n, 4, seed=seed + 100)
    found = nearest_neighbors(IDENTITY, queries, database, k)
    expected = naive_distances(queries, database).sort(1)
    assert found.indices.shape == (m, min(k, n))
    torch.testing.assert_close(found.distances, expected.values[:, :k], atol=1e-5, rtol=0)
    chosen = naive_distances(queries, database).gather(1, found.indices)
    torch.testing.assert_close(chosen, found.distances, atol=1e-5, rtol=0)


@pytest.mark.parametrize("same", [True, False])
def test_no_image_is_its_own_neighbor(same: bool) -> None:
    features = normal(8, 3)
    found = nearest_neighbors(IDENTITY, features, features if same else None, k=20)
    assert found.indices.shape == (8, 7)
    assert (found.indices != torch.arange(8)[:, None]).all()
    copied = nearest_neighbors(IDENTITY, features, features.clone(), k=1)  # another set: the twin is found
    assert copied.indices[:, 0].tolist() == list(range(8))


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 12), st.sampled_from([1, 2, 5, 4096]), st.integers(0, 99))
def test_duplicates_within_a_set_equal_a_naive_search(n: int, chunk: int, seed: int) -> None:
    features = normal(n, 2, seed=seed)
    distances = naive_distances(features, features)
    expected = {(i, j) for i in range(n) for j in range(i + 1, n) if distances[i, j] < 0.1}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "PAIR_CHUNK", chunk)
        found = near_duplicates(IDENTITY, features, threshold=0.1)
    assert set(map(tuple, found.pairs.tolist())) == expected
    assert len(found) == len(expected)
    assert found.distances.tolist() == sorted(found.distances.tolist())


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 3, 4096]), st.integers(0, 99))
def test_duplicates_between_sets_equal_a_naive_search(m: int, n: int, chunk: int, seed: int) -> None:
    train, test = normal(m, 2, seed=seed), normal(n, 2, seed=seed + 100)
    distances = naive_distances(train, test)
    expected = {(i, j) for i in range(m) for j in range(n) if distances[i, j] < 0.1}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "PAIR_CHUNK", chunk)
        found = near_duplicates(IDENTITY, train, test, threshold=0.1)
    assert set(map(tuple, found.pairs.tolist())) == expected
    assert found.redundant == tuple(sorted({j for _, j in expected}))


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 15), st.integers(0, 999))
def test_no_pair_remains_without_redundant_images(n: int, seed: int) -> None:
    features = normal(n, 2, seed=seed)
    found = near_duplicates(IDENTITY, features, threshold=0.05)
    kept = set(range(n)) - set(found.redundant)
    assert not any({one, other} <= kept for one, other in found.pairs.tolist())
    assert kept
    for gone in found.redundant:  # nothing goes without a twin that stays
        assert any(gone in pair and kept & set(pair) for pair in found.pairs.tolist())


def test_equal_images_are_found_with_threshold_zero() -> None:
    images = random_images(6, size=16)
    images[4] = images[1]
    found = near_duplicates(TinyBackbone(), images, threshold=0)
    assert found.pairs.tolist() == [[1, 4]]
    assert found.redundant == (4,)
    train, test = images[:3], images[3:]
    assert near_duplicates(TinyBackbone(), train, test, threshold=0).pairs.tolist() == [[1, 1]]


def test_default_threshold_follows_the_scale_of_the_backbone() -> None:
    angles = torch.linspace(0, 3, 30)
    angles[7] = angles[20] + 0.001
    for narrow in (1.0, 0.03):  # a backbone whose features hardly differ
        features = torch.stack([(angles * narrow).cos(), (angles * narrow).sin()], 1).double()
        assert near_duplicates(IDENTITY, features).pairs.tolist() == [[7, 20]]


def test_sets_without_duplicates_give_no_pair() -> None:
    found = near_duplicates(IDENTITY, torch.eye(5), torch.eye(5)[:2] * -1)
    assert len(found) == 0
    assert found.rows == []
    assert found.redundant == ()


def test_memory_stays_below_all_similarities(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "PAIR_CHUNK", 20)
    monkeypatch.setattr(search, "QUERY_CHUNK", 20)
    monkeypatch.setattr(search, "REFERENCE_CHUNK", 20)
    features = normal(500, 4)
    with LargestTensor() as largest:  # type: ignore[no-untyped-call]
        near_duplicates(IDENTITY, features, threshold=1e-6)
        nearest_neighbors(IDENTITY, features, k=3)
    assert largest.numbers < 500 * 500 / 10


def test_too_many_pairs_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbors, "MOST_PAIRS", 10)
    with pytest.raises(DataError, match=r"at most 10 pairs, but got more within threshold=0\.5\. Lower threshold"):
        near_duplicates(IDENTITY, torch.ones(6, 2), threshold=0.5)


def test_files_go_to_the_rows_and_to_csv(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, shade in enumerate((10, 200, 10)):
        Image.new("RGB", (16, 16), (shade, 255 - shade, 90)).save(folder / f"{number}, é.png")
    images = FolderImages(folder, size=16)
    found = near_duplicates(TinyBackbone(), images, threshold=0)
    assert found.rows == [{"first": str(images.paths[0]), "second": str(images.paths[2]), "distance": 0.0}]
    found.to_csv(tmp_path / "pairs.csv")
    with (tmp_path / "pairs.csv").open(encoding="utf-8", newline="") as file:
        assert [row["second"] for row in csv.DictReader(file)] == [str(images.paths[2])]
    nearest = nearest_neighbors(TinyBackbone(), folder, images, k=2)
    assert nearest.query_files == nearest.database_files == tuple(map(str, images.paths))
    nearest.to_csv(tmp_path / "nearest.csv")
    with (tmp_path / "nearest.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["rank"] for row in rows] == ["1", "2"] * 3
    assert list(rows[0]) == ["query", "rank", "neighbor", "distance"]


def test_invalid_options_are_refused() -> None:
    features = normal(4, 3)
    with pytest.raises(OptionError, match=r"k to be an integer >= 1, but got 0\. The default is 5"):
        nearest_neighbors(IDENTITY, features, k=0)
    with pytest.raises(OptionError, match=r"threshold to be a number in \[0, 2\], but got 3.*Leave it out"):
        near_duplicates(IDENTITY, features, threshold=3)
    with pytest.raises(OptionError, match="one layer"):
        nearest_neighbors(TinyBackbone(), random_images(3, size=16), layers="all")
    with pytest.raises(ShapeError):
        nearest_neighbors(IDENTITY, features, normal(4, 2))
    for search_function in (nearest_neighbors, near_duplicates):
        with pytest.raises(DataError, match="at least two images"):
            search_function(IDENTITY, features[:1])
