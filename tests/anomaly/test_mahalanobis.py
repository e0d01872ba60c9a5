from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pretextkit.anomaly._mahalanobis import shrunk_covariance
from pretextkit.errors import DataError, ShapeError
from pretextkit.functional import mahalanobis_anomaly_score
from tests.helpers import normal as gaussian


def naive_covariance(features: Any) -> Any:
    """Ledoit and Wolf 2004, image by image: noise is the distance of each outer product from the mean."""
    n, d = features.shape
    centered = features - features.mean(0)
    outer = [np.outer(row, row) for row in centered]
    sample = sum(outer) / n
    target = np.trace(sample) / d * np.eye(d)
    distance = ((sample - target) ** 2).sum()
    noise = min(sum(((each - sample) ** 2).sum() for each in outer) / n**2, distance)
    return noise / distance * target + (1 - noise / distance) * sample


@pytest.mark.parametrize(("n", "d"), [(50, 4), (5, 12), (2, 3)])
def test_covariance_matches_a_loop(n: int, d: int) -> None:
    features = gaussian(n, d) * torch.linspace(0.1, 3, d) + 5
    found = shrunk_covariance(features)
    np.testing.assert_allclose(found.numpy(), naive_covariance(features.double().numpy()), rtol=1e-6, atol=1e-9)
    assert torch.linalg.eigvalsh(found).min() > 0


def test_scores_match_the_inverse_covariance() -> None:
    normal, images = gaussian(60, 5) @ gaussian(5, 5, seed=2) + 3, gaussian(8, 5, seed=1)
    inverse = np.linalg.inv(naive_covariance(normal.double().numpy()))
    found = mahalanobis_anomaly_score(nn.Identity(), normal, images)
    assert found.maps is None
    for image, score in zip(images, found.scores, strict=True):
        away = (image - normal.mean(0)).double().numpy()
        assert score.item() == pytest.approx(float(np.sqrt(away @ inverse @ away)), rel=1e-4)


def test_many_gaussian_images_give_the_true_distance() -> None:
    """The mean squared distance of a Gaussian equals its dimension."""
    shape = torch.tensor([0.3, 1.0, 3.0])
    scores = mahalanobis_anomaly_score(
        nn.Identity(), gaussian(20000, 3) * shape, gaussian(5000, 3, seed=1) * shape
    ).scores
    assert scores.square().mean().item() == pytest.approx(3, rel=0.05)


def test_constant_features_and_few_images_give_finite_scores() -> None:
    normal = gaussian(10, 40)
    normal[:, 20:] = 0.0
    images = gaussian(6, 40, seed=1)
    images[:3, 20:] = 0.0
    scores = mahalanobis_anomaly_score(nn.Identity(), normal, images).scores
    assert scores.isfinite().all()
    assert scores[3:].min() > scores[:3].max()  # features that are always zero in normal images count


def test_rare_directions_count_more() -> None:
    normal = gaussian(500, 2) * torch.tensor([10.0, 0.1])
    along, across = torch.tensor([[8.0, 0.0]]), torch.tensor([[0.0, 3.0]])
    scores = mahalanobis_anomaly_score(nn.Identity(), normal, torch.cat([along, across])).scores
    assert scores[1] > 4 * scores[0]


def test_backbone_state_is_restored() -> None:
    backbone = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout())
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    mahalanobis_anomaly_score(backbone, gaussian(9, 3), gaussian(5, 3))
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())
    assert all(module.training for module in backbone.modules())


@pytest.mark.parametrize(
    ("normal", "got"), [(torch.ones(1, 3), "one image"), (torch.ones(5, 3), "the same features for all")]
)
def test_constant_normal_features_are_refused(normal: Tensor, got: str) -> None:
    with pytest.raises(DataError) as caught:
        mahalanobis_anomaly_score(nn.Identity(), normal, torch.ones(2, 3))
    assert caught.value.text == (
        f"Expected normal images with different features, but got {got}. "
        "Pass more normal images, or train the backbone."
    )


def test_features_of_different_widths_are_refused() -> None:
    with pytest.raises(ShapeError, match="Expected features of one width"):
        mahalanobis_anomaly_score(nn.Identity(), gaussian(5, 3), gaussian(5, 4))
