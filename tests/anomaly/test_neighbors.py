from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from pretextkit.anomaly import _neighbors as neighbors
from pretextkit.errors import DataError, OptionError, PretextkitError, ShapeError, UnknownNameError
from pretextkit.functional import neighbor_anomaly_score
from pretextkit.testing import TinyBackbone
from tests.helpers import uniform


def cosine(a: Tensor, b: Tensor) -> float:
    return 1 - float(a @ b / (a.norm() * b.norm()))


def euclidean(a: Tensor, b: Tensor) -> float:
    return float((a - b).square().sum().sqrt())


@pytest.mark.parametrize("k", [1, 3, 99])
@pytest.mark.parametrize(("metric", "distance"), [("cosine", cosine), ("euclidean", euclidean)])
def test_scores_match_a_loop(k: int, metric: Any, distance: Any) -> None:
    normal, images = uniform(12, 5), uniform(7, 5, seed=1)
    found = neighbor_anomaly_score(nn.Identity(), normal, images, k=k, metric=metric)
    assert found.maps is None
    for image, score in zip(images, found.scores, strict=True):
        nearest = sorted(distance(image, each) for each in normal)[:k]
        assert score.item() == pytest.approx(sum(nearest) / len(nearest), rel=1e-4)


def test_cosine_distances_are_averaged_over_layers() -> None:
    net = nn.Sequential(nn.Linear(5, 3), nn.Linear(3, 4))
    normal, images = uniform(1, 5), uniform(4, 5, seed=1)
    both, one, two = (
        neighbor_anomaly_score(net, normal, images, k=1, layers=layers, precision="fp32").scores
        for layers in (["0", "1"], ["0"], ["1"])
    )
    torch.testing.assert_close(both, (one + two) / 2, atol=1e-6, rtol=1e-4)


def test_scores_do_not_depend_on_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    normal, images = uniform(12, 5), uniform(7, 5, seed=1)
    expected = neighbor_anomaly_score(nn.Identity(), normal, images).scores
    monkeypatch.setattr(neighbors, "DISTANCES_AT_ONCE", 25)
    torch.testing.assert_close(neighbor_anomaly_score(nn.Identity(), normal, images).scores, expected)


def test_loaders_are_accepted_and_backbone_state_is_restored() -> None:
    normal, images = uniform(6, 3, 16, 16), uniform(5, 3, 16, 16, seed=1)
    backbone = nn.Sequential(TinyBackbone(), nn.BatchNorm1d(TinyBackbone.feature_dim), nn.Dropout())
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    expected = neighbor_anomaly_score(backbone, normal, images).scores
    loaded = neighbor_anomaly_score(backbone, DataLoader(TensorDataset(normal), batch_size=4), TensorDataset(images))
    torch.testing.assert_close(loaded.scores, expected)
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())
    assert all(module.training for module in backbone.modules())


def test_images_far_from_every_cluster_score_high() -> None:
    centers = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    normal = centers.repeat(10, 1) + 0.1 * uniform(20, 3)
    between = torch.tensor([[0.5, 0.5, 0.0]])  # the mean of all images, but unlike each
    held_out = centers + 0.1 * uniform(2, 3, seed=2)
    metrics: list[Any] = ["cosine", "euclidean"]
    for metric in metrics:
        scores = neighbor_anomaly_score(nn.Identity(), normal, torch.cat([held_out, between]), metric=metric).scores
        assert scores[2] > 5 * scores[:2].max()


@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        ({"k": 0}, OptionError, "Expected k to be an integer >= 1, but got 0. The default is 2."),
        (
            {"metric": "cosin"},
            UnknownNameError,
            "Expected the name of a metric, but got 'cosin'. Did you mean 'cosine'? Known: cosine, euclidean.",
        ),
    ],
)
def test_invalid_options_are_refused(options: dict[str, Any], kind: type[PretextkitError], text: str) -> None:
    with pytest.raises(kind) as caught:
        neighbor_anomaly_score(nn.Identity(), uniform(3, 2), uniform(3, 2), **options)
    assert caught.value.text == text


def test_features_of_different_widths_are_refused() -> None:
    with pytest.raises(ShapeError) as caught:
        neighbor_anomaly_score(nn.Flatten(), uniform(3, 1, 8, 8), uniform(3, 1, 8, 9))
    assert caught.value.text == (
        "Expected features of one width from normal images and from images to score, but got 64 and 72. "
        "Resize all images to one size."
    )


def test_nonfinite_features_are_refused() -> None:
    with pytest.raises(DataError, match="Expected finite features"):
        neighbor_anomaly_score(lambda x: x / 0, uniform(3, 2), uniform(3, 2))
