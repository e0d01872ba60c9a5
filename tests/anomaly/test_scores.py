"""Anomaly scores say what they are."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from pretextkit.anomaly import (
    AnomalyScores,
    mahalanobis_anomaly_score,
    neighbor_anomaly_score,
    patch_anomaly_score,
    reconstruction_anomaly_score,
    rotation_anomaly_score,
)
from pretextkit.tasks import Rotation
from pretextkit.testing import TinyBackbone
from tests.helpers import random_images

NORMAL, IMAGES = random_images(6), random_images(3, seed=1)
CALLS: dict[str, tuple[Callable[[], AnomalyScores], str]] = {
    "neighbor_anomaly_score": (
        lambda: neighbor_anomaly_score(TinyBackbone(), NORMAL, IMAGES, k=1, metric="euclidean"),
        "euclidean distance to the nearest normal image",
    ),
    "mahalanobis_anomaly_score": (
        lambda: mahalanobis_anomaly_score(TinyBackbone(), NORMAL, IMAGES),
        "Mahalanobis distance to the normal images",
    ),
    "patch_anomaly_score": (
        lambda: patch_anomaly_score(TinyBackbone(), NORMAL, IMAGES, reduction="max"),
        "distance of patches to the nearest normal patches (max)",
    ),
    "rotation_anomaly_score": (
        lambda: rotation_anomaly_score(Rotation(TinyBackbone()), IMAGES),
        "loss of the rotation task",
    ),
    "reconstruction_anomaly_score": (
        lambda: reconstruction_anomaly_score(nn.Identity(), IMAGES, error="l1", reduction="mean"),
        "l1 error of the reconstruction (mean)",
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_scores_name_their_function_and_measure(name: str) -> None:
    call, measure = CALLS[name]
    scores = call()
    assert (scores.by, scores.measure) == (name, measure)


def test_neighbors_are_plural_and_functions_have_their_names() -> None:
    near = neighbor_anomaly_score(TinyBackbone(), NORMAL, IMAGES, k=2)
    assert near.measure == "cosine distance to the nearest normal images"

    def highest(maps: torch.Tensor) -> torch.Tensor:
        return maps.amax((1, 2))

    own = reconstruction_anomaly_score(nn.Identity(), IMAGES, reduction=highest)
    assert own.measure == "l2 error of the reconstruction (highest)"


class Distance(nn.Module):
    """An error with a network inside, whose repr has many lines."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(*[nn.Identity() for _ in range(20)])

    def forward(self, images: torch.Tensor, reconstructions: torch.Tensor) -> torch.Tensor:
        return (images - reconstructions).abs().mean(1)


def test_name_of_a_network_is_one_short_line() -> None:
    measure = reconstruction_anomaly_score(nn.Identity(), IMAGES, error=Distance()).measure
    assert measure.startswith("Distance(")
    assert "\n" not in measure
    assert len(measure) < 110


def test_scores_from_elsewhere_have_a_general_measure() -> None:
    assert (AnomalyScores(torch.zeros(2)).measure, AnomalyScores(torch.zeros(2)).by) == ("anomaly score", "")
