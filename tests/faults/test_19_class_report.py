"""Fault 19: accuracy is the only figure."""

from __future__ import annotations

import json
import math
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pretextkit.errors import DataWarning, OptionError
from pretextkit.functional import (
    Comparison,
    compare,
    freeze_and_finetune,
    knn_probe,
    linear_probe,
)
from pretextkit.metrics import ClassReport, class_report
from pretextkit.testing import TinyBackbone, toy_images
from tests.helpers import generator, random_labels

RARE = (torch.arange(1000) % 33 == 0).long()  # three in a hundred are ill


def draw(seed: int) -> tuple[Tensor, Tensor]:
    return torch.randn(1000, 8, generator=generator(seed)) + 0.5 * RARE[:, None], RARE


def tune(train: Any, test: Any, **options: Any) -> Any:
    torch.manual_seed(0)
    head = nn.Linear(192, 2)
    return freeze_and_finetune(
        nn.Flatten(), head, train, test, learning_rate=0.01, device="cpu", progress=False, **({"epochs": 10} | options)
    )


def blobs(count: int, rare: int, seed: int, shift: float = 0.04) -> tuple[Tensor, Tensor]:
    labels = torch.zeros(count, dtype=torch.int64)
    labels[:rare] = 1
    images = 0.3 + 0.2 * torch.rand(count, 3, 8, 8, generator=generator(seed)) + shift * labels[:, None, None, None]
    return images, labels


def test_probe_shows_that_a_rare_class_is_missed() -> None:
    with pytest.warns(
        DataWarning, match=r"No image of class '1' \(31 test images\) was classified correctly"
    ) as caught:
        result = linear_probe(nn.Identity(), draw(0), draw(1), penalties=[1.0])
    assert "class_weights='balanced'" in str(caught[0].message)
    recall = [(result.predictions[label == RARE] == label).float().mean().item() for label in (0, 1)]
    assert result.class_report.recall == pytest.approx(recall)
    assert result.balanced_accuracy == pytest.approx(sum(recall) / 2)
    assert str(result).startswith(f"linear probe: {result.accuracy:.1%} (95% interval ")
    assert ", balanced 50.0% at last, " in str(result)


def test_balanced_weights_find_the_rare_class() -> None:
    weighted = linear_probe(nn.Identity(), draw(0), draw(1), class_weights="balanced")
    assert min(weighted.class_report.recall) > 0.6
    assert weighted.balanced_accuracy > 0.7
    by_hand = linear_probe(nn.Identity(), draw(0), draw(1), class_weights=[1.0, 969 / 31])
    assert torch.equal(weighted.predictions, by_hand.predictions)


def test_equal_numbers_are_no_weights() -> None:
    features, labels = torch.randn(60, 4, generator=generator()), random_labels(60, 3)
    data = features + labels[:, None], labels
    plain = linear_probe(nn.Identity(), data)
    equal = linear_probe(nn.Identity(), data, class_weights=[3.0, 3.0, 3.0])
    assert torch.allclose(plain.head.linear.weight, equal.head.linear.weight, atol=1e-4)


def test_probe_with_weights_equals_repeated_images() -> None:
    features, labels = torch.randn(60, 4, generator=generator()), random_labels(60, 3)
    features[:, 0] += labels
    repeated = torch.cat([torch.arange(60), torch.arange(60)[labels == 2]])
    from pretextkit.evaluation._solvers._logistic import fit_logistic

    penalties = torch.tensor([0.1, 1.0])
    twice = fit_logistic(features[repeated], labels[repeated], 3, penalties)
    weights = 1.0 + (labels == 2)
    weighted = fit_logistic(features, labels, 3, penalties, weights=weights / weights.mean())
    assert torch.allclose(twice.weight, weighted.weight, atol=2e-3)
    wide = torch.randn(60, 100, generator=generator())
    twice = fit_logistic(wide[repeated], labels[repeated], 3, penalties)
    weighted = fit_logistic(wide, labels, 3, penalties, weights=weights / weights.mean())
    assert torch.allclose(twice.weight, weighted.weight, atol=2e-3)


@pytest.mark.parametrize("augment", [None, lambda images, _: images], ids=["features", "images"])
def test_finetuning_takes_class_weights(augment: Any) -> None:
    train, test = blobs(200, 10, 0, 0.06), blobs(200, 10, 1, 0.06)
    result = tune(train, test, class_weights="balanced", epochs=30, augment=augment)
    assert result.class_report.recall[1] > 0.8
    assert result.balanced_accuracy == result.class_report.balanced_accuracy
    assert torch.equal(result.targets, test[1])


def test_finetuning_without_validation_has_no_report() -> None:
    result = tune(blobs(20, 10, 0), None)
    assert result.class_report is result.balanced_accuracy is result.targets is None


def test_finetuning_warns_of_a_missed_class() -> None:
    with pytest.warns(DataWarning, match="No image of class '1'"):
        tune(blobs(200, 10, 0, 0.0), blobs(200, 20, 1, 0.0), epochs=3)


def test_knn_warns_of_a_missed_class_and_names_k() -> None:
    with pytest.warns(DataWarning, match="No image of class '1'.*Lower k"):
        result = knn_probe(nn.Identity(), draw(0), draw(1), k=200)
    assert result.class_report.recall == (1.0, 0.0)
    assert str(result).startswith("200-NN probe: 96.9% (95% interval ")
    assert str(result).endswith("), balanced 50.0%")


def test_tiny_and_healthy_tests_do_not_warn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # Fewer than five images of the missed class.
        labels = torch.tensor([0] * 60 + [1] * 4)
        train = torch.randn(64, 2, generator=generator()), labels
        linear_probe(nn.Identity(), train, (train[0] + 0.1, labels), penalties=[100.0])
        # Many classes at a low accuracy: some have no hit by accident.
        labels = torch.arange(300) % 50
        features = (
            torch.randn(300, 16, generator=generator()) + 0.4 * torch.randn(50, 16, generator=generator(1))[labels]
        )
        result = linear_probe(nn.Identity(), (features[:150], labels[:150]), (features[150:], labels[150:]))
        assert result.class_report.missed
        # Healthy features.
        features = torch.eye(4).repeat(10, 1)
        assert (
            linear_probe(nn.Identity(), (features, torch.arange(40) % 4), (features, torch.arange(40) % 4)).accuracy
            == 1
        )


def test_report_equals_torchmetrics() -> None:
    from torchmetrics.functional.classification import multiclass_precision, multiclass_recall

    predictions, targets = random_labels(200, 7, 0), random_labels(200, 7, 1)
    report = class_report(predictions, targets)
    assert report.balanced_accuracy == pytest.approx(multiclass_recall(predictions, targets, 7, average="macro").item())
    assert report.recall == pytest.approx(multiclass_recall(predictions, targets, 7, average="none").tolist())
    assert report.precision == pytest.approx(multiclass_precision(predictions, targets, 7, average="none").tolist())


def test_report_of_absent_classes_is_nan_and_survives_json() -> None:
    report = class_report(torch.tensor([0, 0, 1]), torch.tensor([0, 0, 0]), ["a", "b", "c"])
    assert math.isnan(report.recall[1])
    assert math.isnan(report.precision[2])
    assert report.precision[1] == 0
    assert report.missed == ()
    again = ClassReport.from_dict(json.loads(json.dumps(report.to_dict(), allow_nan=False)))
    assert repr(again) == repr(report)


@pytest.mark.filterwarnings("ignore:All .* test images are training images")
def test_comparison_has_the_recall_of_each_class(tmp_path: Any) -> None:
    images = toy_images(40, generator=generator())
    data = images, torch.arange(40) % 2
    options: Any = {"epochs": 1, "batch_size": 20, "label_fractions": [0.5], "finetune_steps": 1, "device": "cpu"}
    result = compare(["rotation"], TinyBackbone, data, data, **options, save=tmp_path, progress=False)
    run = result.runs[0]
    assert run.linear_report is not None
    assert run.knn_report is not None
    assert run.linear_report.accuracy == run.linear
    assert run.knn_report.accuracy == run.knn
    assert {count: report.accuracy for count, report in run.finetuned_reports.items()} == run.finetuned
    assert result.accuracies("linear_balanced")["random init"] == [run.linear_report.balanced_accuracy]
    loaded = Comparison.load(tmp_path / "comparison.json")
    assert loaded.runs[0].linear_report == run.linear_report
    old = run.to_dict()
    for name in ("linear_report", "knn_report", "finetuned_reports"):
        del old[name]
    assert math.isnan(type(run).from_dict(old).linear_balanced)


@pytest.mark.parametrize("wrong", ["equal", [1.0], [1.0, 2.0, 3.0], [1.0, 0.0], [1.0, math.nan], 3])
def test_wrong_class_weights_are_refused(wrong: Any) -> None:
    with pytest.raises(OptionError, match="class_weights"):
        linear_probe(nn.Identity(), draw(0), draw(1), class_weights=wrong)
    with pytest.raises(OptionError, match="class_weights"):
        tune(blobs(20, 10, 0), None, class_weights=wrong)
