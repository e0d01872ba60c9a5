"""Metrics, scores and probes of arbitrary input: the documented shape, or a pretextkit error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pretextkit import functional
from pretextkit.anomaly._scores import AnomalyScores
from pretextkit.models import SmallCNN
from pretextkit.tasks import Rotation
from pretextkit.testing import TinyBackbone

from .strategies import LAYOUTS, answer, any_tensors, images, laid_out, matrices, seeds

TINY = TinyBackbone().eval().requires_grad_(False)
ROTATION = Rotation(TINY)
BATCHED = SmallCNN().eval()

SCORES: dict[str, Callable[..., Any]] = {
    "mahalanobis_anomaly_score": lambda x, y: functional.mahalanobis_anomaly_score(TINY, x, y),
    "neighbor_anomaly_score": lambda x, y: functional.neighbor_anomaly_score(TINY, x, y),
    "patch_anomaly_score": lambda x, y: functional.patch_anomaly_score(TINY, x, y),
    "reconstruction_anomaly_score": lambda x, y: functional.reconstruction_anomaly_score(lambda image: image / 2, y),
    "rotation_anomaly_score": lambda x, y: functional.rotation_anomaly_score(ROTATION, y),
}


@pytest.mark.parametrize("name", SCORES)
@given(x=st.one_of(any_tensors(), images(8)), y=st.one_of(any_tensors(), images(8)))
def test_anomaly_scores_of_arbitrary_tensors(name: str, x: Tensor, y: Tensor) -> None:
    result = answer(SCORES[name], x, y)
    if result is not None:
        assert isinstance(result, AnomalyScores)
        assert result.scores.shape == (len(y),)
        assert result.scores.isfinite().all()
        assert result.maps is None or result.maps.shape == (len(y), *y.shape[2:])


@given(x=st.one_of(any_tensors(), images(8)), layout=st.sampled_from(LAYOUTS))
def test_extract_features_of_arbitrary_tensors(x: Tensor, layout: str) -> None:
    result = answer(functional.extract_features, TINY, x)
    if result is not None:
        (features,) = result.layers.values()
        assert features.shape == (len(x), 64)
        if layout != "expanded":
            again = functional.extract_features(TINY, laid_out(x.detach().clone(), layout)).layers
            torch.testing.assert_close(next(iter(again.values())), features)


PROBES: dict[str, Callable[..., Any]] = {
    "knn_probe": lambda train, test: functional.knn_probe(torch.nn.Identity(), train, test),
    "linear_probe": lambda train, test: functional.linear_probe(torch.nn.Identity(), train, test, penalties=(0.1,)),
}
labels = st.lists(st.integers(-1, 3), min_size=1, max_size=12)


@pytest.mark.filterwarnings("ignore:.* test images are training images:pretextkit.errors.DataWarning")
@pytest.mark.parametrize("name", PROBES)
@given(
    x=st.one_of(any_tensors(5), matrices(1, ("unit", "signed", "large", "huge", "zeros", "nan"))),
    y=st.one_of(any_tensors(5), matrices()),
    x_labels=labels,
    y_labels=labels,
    fit=st.booleans(),
)
def test_probes_of_arbitrary_features_and_labels(
    name: str, x: Tensor, y: Tensor, x_labels: list[int], y_labels: list[int], fit: bool
) -> None:
    if fit and x.ndim and y.ndim:  # mostly valid: as many labels as rows, and equal widths
        x_labels, y_labels = (x_labels * len(x))[: len(x)], (y_labels * len(y))[: len(y)]
        y = x.detach()[: len(y)] if x.ndim == 2 else y
        y_labels = x_labels[: len(y)]
    result = answer(PROBES[name], (x, x_labels), (y, y_labels))
    if result is not None:
        assert 0 <= result.accuracy <= 1
        labeled = [label for label in y_labels if label >= 0]
        assert result.targets.tolist() == labeled  # unlabeled rows are not a class
        assert result.predictions.shape == result.targets.shape
        assert set(result.predictions.tolist()) <= {label for label in x_labels if label >= 0}


@given(normal=any_tensors(), other=any_tensors(), rate=st.one_of(st.floats(), st.sampled_from((0.05, 0.5))))
def test_detection_and_calibration_of_arbitrary_scores(normal: Tensor, other: Tensor, rate: float) -> None:
    metrics = answer(functional.detection_metrics, normal, other)
    if metrics is not None:
        assert all(0 <= value <= 1 + 1e-9 for value in metrics)
        assert normal.ndim == other.ndim == 1
    calibration = answer(functional.calibrate, normal, false_positive_rate=rate)
    if calibration is not None:
        assert normal.ndim == 1
        assert float((normal.detach().double() > calibration.threshold).double().mean()) <= rate
        values = answer(calibration.p_values, other)
        assert values is None or (values.shape == other.shape and bool(((values > 0) & (values <= 1)).all()))


@given(
    predictions=any_tensors(5),
    targets=any_tensors(5),
    classes=st.integers(-1, 6),
    ignored=st.integers(-2, 256),
    seed=seeds,
    fit=st.booleans(),
)
def test_segmentation_metrics_of_arbitrary_masks(
    predictions: Tensor, targets: Tensor, classes: int, ignored: int, seed: int, fit: bool
) -> None:
    if fit:
        generator = torch.Generator().manual_seed(seed)
        predictions, targets = (torch.randint(0, max(classes, 1), (2, 3, 4), generator=generator) for _ in range(2))
    metrics = answer(functional.segmentation_metrics, predictions, targets, classes, ignore_index=ignored)
    if metrics is not None:
        seen = targets != ignored
        hits = int((predictions[seen] == targets[seen]).sum())
        assert metrics.pixel_accuracy == pytest.approx(hits / int(seen.sum()))
        assert len(metrics.class_iou) == classes
        assert bool(((predictions >= 0) & (predictions < classes)).all())


@given(x=any_tensors(), y=any_tensors(), same=st.booleans())
def test_feature_distance_of_arbitrary_tensors(x: Tensor, y: Tensor, same: bool) -> None:
    maps = answer(functional.feature_distance(TINY), x, x if same else y)
    if maps is not None:
        assert maps.shape == (len(x), *x.shape[2:])


@given(x=any_tensors())
def test_backbones_on_arbitrary_tensors(x: Tensor) -> None:
    with torch.no_grad():
        for network in (TINY, BATCHED):
            features = answer(network, x)
            assert features is None or features.shape == (len(x), network.feature_dim)
