"""Choice of the images to label: order, prefixes, closed forms, naive twins, tables and bad input."""

from __future__ import annotations

import csv
import warnings
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from pretextkit.data import FolderImages
from pretextkit.errors import DataError, DataWarning, OptionError, UnknownNameError
from pretextkit.functional import ProbCover, Selection, TypiClust, linear_probe, select_files, select_to_label
from pretextkit.selection import SelectionMethod, _duplicates, _kmeans
from pretextkit.selection._duplicates import distinct_rows
from pretextkit.selection._kmeans import k_means, nearest_distances
from pretextkit.selection._probcover import pure_radius
from pretextkit.selection._select import METHODS
from tests.helpers import LargestTensor, generator, normal


def blobs(sizes: tuple[int, ...], d: int = 6, spread: float = 0.1, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Features around one axis for each class, in random order, with the classes."""
    classes = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    points = torch.eye(d)[classes] + spread * normal(len(classes), d, seed=seed)
    order = torch.randperm(len(classes), generator=generator(seed))
    return points[order], classes[order]


@pytest.mark.parametrize("method", list(METHODS))
def test_choice_of_fewer_is_a_prefix_and_repeats(method: str) -> None:
    features, _ = blobs((40, 30, 20, 10))
    most = select_to_label(features, 35, method=method)
    assert len(set(most.indices.tolist())) == len(most) == 35
    for n in (1, 9, 10, 11, 20, 34):
        again = select_to_label(features, n, method=method)
        assert torch.equal(again.indices, most.indices[:n])
        assert torch.equal(again.scores, most.scores[:n])


@pytest.mark.parametrize("method", list(METHODS))
def test_labeled_images_are_not_chosen(method: str) -> None:
    features, _ = blobs((20, 20))
    labeled = torch.arange(0, 40, 2)
    by_number = select_to_label(features, 20, method=method, labeled=labeled)
    assert sorted(by_number.indices.tolist()) == list(range(1, 40, 2))
    assert by_number.labeled == 20
    mask = torch.arange(40) % 2 == 0
    assert torch.equal(select_to_label(features, 20, method=method, labeled=mask).indices, by_number.indices)


@pytest.mark.parametrize("method", ["typiclust", ProbCover(classes=4), "k-center"])
def test_first_choices_come_from_all_clusters(method: str | SelectionMethod) -> None:
    features, classes = blobs((300, 80, 60, 60), spread=0.08)
    chosen = select_to_label(features, 10, method=method)
    assert len(set(classes[chosen.indices].tolist())) == 4


@pytest.mark.parametrize("method", ["typiclust", "probcover", "k-center"])
def test_first_choice_leaves_the_labeled_cluster(method: str) -> None:
    features, classes = blobs((60, 40), spread=0.08)
    first = int((classes == 0).nonzero()[0])
    chosen = select_to_label(features, 1, method=method, labeled=(classes == 0).nonzero()[:, 0][:20])
    assert classes[chosen.indices].tolist() == [1]
    assert first not in chosen.indices


def test_typiclust_takes_the_most_typical_image_of_one_cluster() -> None:
    features = nn.functional.normalize(normal(9, 6))  # 9 // 5 is one cluster
    distances = torch.cdist(features, features)
    nearest = distances.sort(1).values[:, 1:5].mean(1)  # half of the cluster: 4 neighbors
    chosen = select_to_label(features, 1)
    assert chosen.indices.tolist() == [int(nearest.argmin())]
    torch.testing.assert_close(chosen.scores, 1 / nearest.min()[None], rtol=1e-4, atol=0)
    two = distances.sort(1).values[:, 1:3].mean(1)
    assert select_to_label(features, 1, method=TypiClust(neighbors=2)).indices.tolist() == [int(two.argmin())]


def test_typiclust_takes_the_largest_clusters_first_and_outliers_last() -> None:
    features, classes = blobs((120, 60, 30), spread=0.02)
    outliers = torch.eye(6)[3:6] + 0.01 * normal(3, 6)  # fewer than five each
    chosen = select_to_label(torch.cat([features, outliers]), 10)  # ten clusters, three of them an outlier each
    known = torch.cat([classes, torch.full((3,), -1)])
    assert (known[chosen.indices] >= 0).all()


def test_probcover_equals_a_naive_greedy_cover() -> None:
    features = nn.functional.normalize(normal(40, 4))
    near = torch.cdist(features, features) <= 0.7
    covered = torch.zeros(40, dtype=torch.bool)
    expected: list[int] = []
    gains: list[int] = []
    while len(expected) < 8:
        counts = (near & ~covered).sum(1)
        row = int(counts.argmax())
        expected.append(row)
        gains.append(int(counts[row]))
        covered |= near[row]
    chosen = select_to_label(features, 8, method=ProbCover(radius=0.7))
    assert chosen.indices.tolist() == expected
    assert chosen.scores.tolist() == gains
    assert min(gains) > 0


def test_probcover_goes_on_when_all_is_covered() -> None:
    features, _ = blobs((20, 20), spread=0.05)
    chosen = select_to_label(features, 40, method=ProbCover(radius=1.0))
    assert sorted(chosen.indices.tolist()) == list(range(40))
    assert chosen.scores[2] > 1  # two images cover all; the third begins to cover again


def test_probcover_begins_again_where_the_labels_cover_all() -> None:
    features, _ = blobs((20, 20), spread=0.05)
    chosen = select_to_label(features, 3, method=ProbCover(radius=2.0), labeled=[0])
    assert len(set(chosen.indices.tolist()) - {0}) == 3
    assert chosen.scores[0] > 1


def test_pure_radius_is_the_largest_with_pure_neighborhoods() -> None:
    features = nn.functional.normalize(blobs((60, 60), spread=0.3)[0])
    radius = pure_radius(features, 2, generator())
    _, clusters = k_means(features, 2, generator())

    def pure(radius: float) -> float:
        near = torch.cdist(features, features) <= radius
        other = clusters[:, None] != clusters
        return float((~(near & other).any(1)).float().mean())

    assert pure(radius * 0.99) >= 0.949 > pure(radius * 1.1)


def test_k_center_equals_a_naive_search() -> None:
    features = nn.functional.normalize(normal(30, 4))
    distances = torch.cdist(features, features)
    expected = [3, 8]
    for _ in range(6):
        expected.append(int(distances[:, expected].amin(1).argmax()))
    chosen = select_to_label(features, 6, method="k-center", labeled=[8, 3])
    assert chosen.indices.tolist() == expected[2:]


def test_random_methods_draw_other_images_under_another_seed() -> None:
    features, _ = blobs((50, 50))
    for method in ("random", "k-means++", "k-center"):
        draws = {tuple(select_to_label(features, 5, method=method, seed=seed).indices.tolist()) for seed in range(3)}
        assert len(draws) == 3


def test_k_means_finds_the_clusters_and_beats_its_seeds() -> None:
    points, classes = blobs((50, 40, 30), spread=0.1)
    centers, clusters = k_means(points, 3, generator())
    assert len({(a, b) for a, b in zip(clusters.tolist(), classes.tolist(), strict=True)}) == 3
    for cluster in range(3):
        torch.testing.assert_close(centers[cluster], points[clusters == cluster].mean(0), atol=1e-5, rtol=0)
    torch.testing.assert_close(nearest_distances(points, centers), torch.cdist(points, centers).amin(1) ** 2)


def test_k_means_on_a_sample_assigns_all_points(monkeypatch: pytest.MonkeyPatch) -> None:
    points, classes = blobs((200, 100), spread=0.05)
    monkeypatch.setattr(_kmeans, "FITTED", 50)
    _, clusters = k_means(points, 2, generator())
    assert len(clusters) == 300
    assert len({(a, b) for a, b in zip(clusters.tolist(), classes.tolist(), strict=True)}) == 2


@pytest.mark.parametrize("block", [3, 4096])
@pytest.mark.parametrize("components", [1, 62])
def test_distinct_rows_equal_a_naive_search(block: int, components: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_duplicates, "BLOCK", block)
    monkeypatch.setattr(_duplicates, "COMPONENTS", components)
    base = normal(12, 5)
    features = nn.functional.normalize(torch.cat([base, base[:4] + 1e-4 * normal(4, 5, seed=1), base[5:6]]))
    kept = distinct_rows(features, torch.tensor([13]))
    assert kept.tolist() == [13, 0, *range(2, 12)]  # of 1 and 13, the labeled stays; 12, 14, 15, 16 are copies


def test_near_duplicates_are_left_out_and_counted() -> None:
    features, _ = blobs((30, 30))
    copies = torch.cat([features, features[:10], features[:10] * 2])
    for method in METHODS:
        chosen = select_to_label(copies, 60, method=method)
        assert len(chosen) == 60
        assert chosen.duplicates == 20
        assert "20 near-duplicates left out" in str(chosen)


def test_no_duplicate_is_reported_where_there_is_none() -> None:
    features, _ = blobs((30, 30))
    assert select_to_label(features, 5).duplicates == 0
    assert str(select_to_label(features, 5)) == "5 of 60 images (typiclust)"


def test_memory_grows_with_blocks_not_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    features, _ = blobs((1500, 1500))
    monkeypatch.setattr(_duplicates, "BLOCK", 64)
    monkeypatch.setattr("pretextkit._chunks._MAX_ENTRIES", 64 * 3000)
    monkeypatch.setattr("pretextkit.evaluation._neighbor_search.QUERY_CHUNK", 64)
    for method in METHODS:
        with LargestTensor() as largest:  # type: ignore[no-untyped-call]
            select_to_label(features, 12, method=method)
        assert largest.numbers <= 64 * 3000 * 1.01


def test_too_many_images_are_refused() -> None:
    features, _ = blobs((5, 5))
    with pytest.raises(DataError, match=r"at most 9 images to choose: so many of 10 .* but got n=10. Lower n"):
        select_to_label(features, 10, labeled=[2])
    with pytest.raises(OptionError, match="n to be an integer >= 1"):
        select_to_label(features, 0)


@pytest.mark.parametrize("method", list(METHODS))
def test_equal_images_are_one_image(method: str) -> None:
    features = torch.ones(50, 4)
    assert len(select_to_label(features, 1, method=method)) == 1
    with pytest.raises(DataError, match=r"at most 1 images .* but got n=2"):
        select_to_label(features, 2, method=method)


def test_bad_features_and_options_are_refused() -> None:
    features, _ = blobs((5, 5))
    bad = features.clone()
    bad[3, 1] = torch.nan
    with pytest.raises(DataError, match="NaN"):
        select_to_label(bad, 2)
    with pytest.raises(DataError, match=r"features n d, or images with a backbone.* Pass backbone"):
        select_to_label(torch.rand(4, 3, 8, 8), 2)
    with pytest.raises(UnknownNameError, match="Did you mean 'typiclust'"):
        select_to_label(features, 2, method="typiclus")
    with pytest.raises(OptionError, match="method to be a name or a function"):
        select_to_label(features, 2, method=ProbCover)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="numbers of labeled images from 0 to 9, but got 10"):
        select_to_label(features, 2, labeled=[1, 10])
    with pytest.raises(DataError, match="a mask of 10 bools"):
        select_to_label(features, 2, labeled=torch.ones(9, dtype=torch.bool))
    with pytest.raises(OptionError, match="radius"):
        ProbCover(radius=0)


def test_own_method_is_a_function() -> None:
    def last(features: Tensor, labeled: Tensor, count: int, generator: torch.Generator) -> object:
        from pretextkit.selection import Choice

        return Choice(torch.arange(len(features) - count, len(features)), torch.ones(count), "place")

    chosen = select_to_label(blobs((5, 5))[0], 2, method=last)  # type: ignore[arg-type]
    assert chosen.indices.tolist() == [8, 9]
    assert chosen.method == "last"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of 24 distinct images of two kinds, in two sub-folders that are no classes."""
    folder = tmp_path / "photos"
    for i in range(24):
        values = (255 * torch.rand(8, 8, generator=generator(i)) * 0.3).byte()
        values[: i % 8 + 1, : (i // 8) + 2] = 255 if i % 2 else 120
        path = folder / ("a" if i < 12 else "b") / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values.numpy()).save(path)
    return folder


def fill(path: Path, labels: list[str]) -> None:
    """Fill in the first labels of a table."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "label"])
        writer.writerows([row["file"], label] for row, label in zip(rows, labels + [""] * len(rows), strict=False))


def test_table_is_filled_in_and_read_back(photos: Path, tmp_path: Path) -> None:
    table = tmp_path / "to_label.csv"
    chosen = select_files(photos, nn.Flatten(), 6, table)
    lines = table.read_text().splitlines()
    assert lines[0] == "file,label"
    assert lines[1] == f"{Path(chosen.rows[0]['file']).relative_to(photos).as_posix()},"  # type: ignore[arg-type]
    with pytest.warns(DataWarning, match="None of the 6 rows"):
        assert set(FolderImages(photos, labels=table).labels) == {-1}
    fill(table, ["cat", "dog", "cat", "dog"])
    images = FolderImages(photos, labels=table)
    assert images.classes == ("cat", "dog")
    assert [images.labels[i] for i in chosen.indices] == [0, 1, 0, 1, -1, -1]
    assert sum(label >= 0 for label in images.labels) == 4


def test_damaged_file_is_skipped_on_request(photos: Path, tmp_path: Path) -> None:
    (photos / "a" / "0.png").write_bytes(b"no image")
    table = tmp_path / "to_label.csv"
    with pytest.raises(DataError, match=r"can be decoded at .*0\.png.*on_error=\"skip\""):
        select_files(photos, nn.Flatten(), 23, table, size=8)
    select_files(photos, nn.Flatten(), 23, table, size=8, on_error="skip")
    assert "a/0.png" not in table.read_text()
    assert len(table.read_text().splitlines()) == 24


def test_second_round_counts_the_first(photos: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first.csv", tmp_path / "second.csv"
    one = select_files(photos, nn.Flatten(), 6, first)
    fill(first, ["cat", "dog", "cat"])
    two = select_files(photos, nn.Flatten(), 10, second, labels=first)
    assert two.labeled == 3
    assert not set(two.indices.tolist()) & set(one.indices[:3].tolist())
    with pytest.raises(DataError, match="another file for the new table"):
        select_files(photos, nn.Flatten(), 6, first, labels=first)


def test_labels_are_never_overwritten(photos: Path, tmp_path: Path) -> None:
    table = tmp_path / "to_label.csv"
    chosen = select_files(photos, nn.Flatten(), 6, table)
    chosen.to_csv(table)  # without labels, again
    fill(table, ["cat"])
    before = table.read_bytes()
    with pytest.raises(DataError, match=r"1 label in it.* Choose another name"):
        chosen.to_csv(table)
    assert table.read_bytes() == before


@pytest.mark.parametrize("name", ["a;{}.png", "a,{}.png", "a|{}.png", 'a"{}.png'])
def test_table_of_any_names_is_written_again_until_filled(name: str, tmp_path: Path) -> None:
    chosen = Selection(
        indices=torch.arange(4),
        scores=torch.ones(4),
        score="distance",
        method="k-center",
        files=tuple(str(tmp_path / name.format(number)) for number in range(4)),
        labeled=0,
        duplicates=0,
    )
    table = tmp_path / "to_label.csv"
    chosen.to_csv(table)
    chosen.to_csv(table)
    lines = table.read_text().splitlines()
    table.write_text("\n".join([*lines[:-1], f"{lines[-1]}cat"]) + "\n")
    with pytest.raises(DataError, match="1 label in it"):
        chosen.to_csv(table)


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_labels_after_another_delimiter_are_not_overwritten(delimiter: str, photos: Path, tmp_path: Path) -> None:
    table = tmp_path / "to_label.csv"
    chosen = select_files(photos, nn.Flatten(), 6, table)
    fill(table, ["cat", "dog"])
    table.write_text(table.read_text().replace(",", delimiter))
    with pytest.raises(DataError, match="2 labels in it"):
        chosen.to_csv(table)


def test_images_without_files_have_no_table(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="images with files, but got images without files"):
        select_to_label(blobs((5, 5))[0], 2).to_csv(tmp_path / "table.csv")


def test_table_of_other_files_is_refused_or_reported(photos: Path, tmp_path: Path) -> None:
    table = tmp_path / "other.csv"
    table.write_text("file,label\nx.png,cat\ny.png,dog\n")
    with pytest.raises(DataError, match=r"names of images in .* in .*other.csv, but got 2 that fit none"):
        select_files(photos, nn.Flatten(), 2, tmp_path / "new.csv", labels=table)
    table.write_text("file,label\na/1.png,cat\ny.png,dog\n")
    with pytest.warns(DataWarning, match="1 of 2 names .* fit no image"):
        chosen = select_files(photos, nn.Flatten(), 2, tmp_path / "new.csv", labels=table)
    assert chosen.labeled == 1


def test_one_class_alone_is_refused_when_it_came_back(photos: Path, tmp_path: Path) -> None:
    table = tmp_path / "to_label.csv"
    select_files(photos, nn.Flatten(), 4, table)
    fill(table, ["cat"] * 4)
    with pytest.raises(DataError, match="at least 2 classes, but got class 0 only"):
        linear_probe(nn.Flatten(), FolderImages(photos, labels=table), FolderImages(photos, labels=table))


def test_result_shows_its_rows() -> None:
    chosen = select_to_label(blobs((20, 20))[0], 3)
    assert isinstance(chosen, Selection)
    assert chosen.rows[0] == {
        "rank": 1,
        "file": str(int(chosen.indices[0])),
        "index": int(chosen.indices[0]),
        "typicality": round(float(chosen.scores[0]), 6),
    }
    assert chosen.display_table()[0] == ["rank", "file", "index", "typicality"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "typiclust" in repr(chosen)
