from __future__ import annotations

import math
import warnings

import pytest
import torch
from torch import Generator, nn

from pretextkit.errors import DataWarning
from pretextkit.evaluation._classes import find_classes
from pretextkit.evaluation._logistic_classifier import PENALTIES, fit_logistic_classifier
from pretextkit.functional import extract_features, knn_probe, linear_probe
from pretextkit.metrics._classification import wilson_interval
from pretextkit.models import SmallCNN
from tests.evaluation.test_linear_probe import clouds, striped


def test_default_reads_all_stages_and_head_reads_the_chosen() -> None:
    torch.manual_seed(0)
    backbone, train, test = SmallCNN(), striped(30, 0), striped(20, 1)
    result = linear_probe(backbone, train, test)
    assert {"stage1 1x1", "stage1 4x4", "stage2 2x2", "stage4 1x1"} <= set(result.layers)
    assert result.last == "stage4 1x1"
    features = extract_features(backbone, test[0], layers=[result.layer]).layers[result.layer]
    assert torch.equal(result.head(features).argmax(1), result.predictions)
    torch.testing.assert_close(result.probabilities, result.head(features).softmax(1), rtol=0, atol=1e-4)
    again = linear_probe(backbone, train, test, layers=[result.layer])
    assert torch.equal(again.predictions, result.predictions)
    shuffled = (test[0], test[1].roll(1))
    other = linear_probe(backbone, train, shuffled)
    assert (other.layer, torch.equal(other.probabilities, result.probabilities)) == (result.layer, True)
    assert other.accuracy != result.accuracy


def test_one_label_of_each_class_takes_the_last_layer() -> None:
    """Nothing compares the layers, although the first one would be perfect here."""
    torch.manual_seed(0)
    images, labels = torch.rand(6, 3, 16, 16), torch.arange(6) % 3
    few, test = (images[:3], labels[:3]), (images[3:], labels[3:])
    probe = linear_probe(SmallCNN(), few, test)
    assert probe.layer == probe.last == "stage4 1x1"
    assert "at stage4 1x1, the last layer, as too few of the 3 labels share a class to choose by" in str(probe)
    named = linear_probe(SmallCNN(), few, test, layers=["stage3", "stage1"])
    assert named.layer == named.last
    assert named.layer.startswith("stage1")
    one_pair = linear_probe(SmallCNN(), (images[:4], labels[:4]), test)
    assert one_pair.layer == one_pair.last
    two_pairs = linear_probe(SmallCNN(), (images[:5], labels[:5]), test)
    assert "chosen from" in str(two_pairs)


def test_cross_validation_of_noise_is_chance_and_of_clouds_is_good() -> None:
    noise = torch.randn(200, 30, generator=Generator().manual_seed(0)), torch.arange(200) % 4
    result = linear_probe(nn.Identity(), noise)
    assert result.cross_validated
    assert len(result.predictions) == 200
    assert result.interval[0] < 0.25 < result.interval[1]
    assert linear_probe(nn.Identity(), clouds(60, 0, noise=0.1)).accuracy == 1.0
    assert str(result).startswith("linear probe, cross-validated: ")


def test_probe_names_test_images_that_are_training_images() -> None:
    images, labels = striped(20, 0)
    mean = lambda x: x.mean((2, 3))  # noqa: E731
    for test in ((images, labels), (images.clone(), labels.clone()), (images[5:], labels[5:])):
        with pytest.warns(DataWarning, match="test images are training images.*Leave out test"):
            linear_probe(mean, (images, labels), test)
    with pytest.warns(DataWarning, match="All 20 test images are training images.*classified by the others"):
        knn_probe(mean, (images, labels), (images.clone(), labels))


def test_few_duplicates_and_discrete_features_do_not_warn() -> None:
    (images, labels), (others, targets) = striped(20, 0), striped(20, 1)
    mean = lambda x: x.mean((2, 3))  # noqa: E731
    discrete = torch.eye(4).repeat(5, 1), torch.arange(4).repeat(5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        linear_probe(mean, (images, labels), (torch.cat([others, images[:4]]), torch.cat([targets, labels[:4]])))
        linear_probe(nn.Identity(), discrete, (discrete[0].clone(), discrete[1]))
        knn_probe(nn.Identity(), discrete, (discrete[0].clone(), discrete[1]), k=1)


def test_penalty_equals_the_best_of_a_full_grid() -> None:
    """The descent on the first fold finds the penalty that a search over all penalties finds."""
    train, test = clouds(120, 0, d=20, noise=3.0), clouds(60, 1, d=20, noise=3.0)
    found = linear_probe(nn.Identity(), train, test).layers["last"]
    every = {p: linear_probe(nn.Identity(), train, test, penalties=[p]).layers["last"].log_loss for p in PENALTIES}
    assert found.log_loss == pytest.approx(min(every.values()), abs=0.01)


def test_classifier_has_minus_infinity_for_absent_classes() -> None:
    features, labels = clouds(40, 0)
    labels = labels * 2
    head = fit_logistic_classifier(features, labels, find_classes(labels, ("a", "b", "c", "d", "e")))
    logits = head(features)
    assert logits.shape == (40, 5)
    assert (logits[:, [1, 3]] == -math.inf).all()
    assert (logits.argmax(1) == labels).float().mean() > 0.9


def test_wilson_interval_solves_its_equation() -> None:
    for hits, count in ((0, 5), (3, 10), (80, 100), (7, 7)):
        low, high = wilson_interval(hits, count)
        assert 0 <= low <= hits / count <= high <= 1
        for bound in {low, high} - {0.0, 1.0}:
            distance = abs(hits / count - bound)
            assert distance == pytest.approx(1.959964 * math.sqrt(bound * (1 - bound) / count), abs=1e-6)


def test_default_neighbors_follow_the_size_of_classes() -> None:
    assert knn_probe(nn.Identity(), clouds(30, 0)).k == 5
    assert knn_probe(nn.Identity(), clouds(6, 0)).k == 1
    assert knn_probe(nn.Identity(), clouds(300, 0)).k == 20
    assert knn_probe(nn.Identity(), clouds(30, 0), k=7).k == 7
