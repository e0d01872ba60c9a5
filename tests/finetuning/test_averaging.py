from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pretextkit._seeding import derived_generator
from pretextkit.data._tensor_images import TensorImages
from pretextkit.errors import OptionError
from pretextkit.finetuning._averaging import average_weights, is_pretrained, mix_weights, state_of, training_loss
from pretextkit.finetuning._recipe import FinetuneSettings
from pretextkit.functional import FinetuneResult, freeze_and_finetune, linear_probe, pretrain
from pretextkit.inference import Classifier
from pretextkit.models import LinearHead, SmallCNN
from pretextkit.tasks import Rotation
from pretextkit.testing import TinyBackbone
from tests.helpers import random_images

LABELS = torch.arange(24) % 2
IMAGES = random_images(24, size=16) * 0.5 + 0.5 * LABELS[:, None, None, None]


def tune(backbone: nn.Module, **options: Any) -> FinetuneResult:
    options = {"steps": 4, "augment": None, "device": "cpu", "progress": False, **options}
    return freeze_and_finetune(backbone, "linear", (IMAGES, LABELS), **options)


def classifier_of(scale: float) -> Classifier:
    """Build a classifier by brightness, whose logits grow with ``scale``; 0 knows nothing."""
    head = LinearHead(3, 2)
    with torch.no_grad():
        head.linear.weight.copy_(scale * torch.tensor([[-1.0] * 3, [1.0] * 3]) / 3)
        head.linear.bias.copy_(scale * torch.tensor([0.5, -0.5]))
    return Classifier(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), head)


@pytest.mark.parametrize("part", [0.0, 0.25, 0.5, 1.0])
def test_mixed_weights_lie_between_the_ends(part: float) -> None:
    module, other = nn.Linear(2, 3), nn.Linear(2, 3)
    start, end = state_of(module), state_of(other)
    mix_weights(module, start, end, part)
    for name, values in module.state_dict().items():
        torch.testing.assert_close(values, (1 - part) * start[name] + part * end[name])


def test_mixed_statistics_count_the_batches_of_the_end() -> None:
    module = nn.BatchNorm1d(2)
    start = state_of(module)
    module.train()(torch.randn(8, 2, generator=torch.Generator().manual_seed(0)) + 5)
    end = state_of(module)
    mix_weights(module, start, end, 0.5)
    torch.testing.assert_close(module.running_mean, end["running_mean"] / 2)
    assert module.num_batches_tracked == 1


def test_values_that_did_not_change_stay_bit_identical() -> None:
    module = nn.Linear(50, 50)
    before = state_of(module)
    mix_weights(module, before, state_of(module), 0.3)
    assert all(torch.equal(values, before[name]) for name, values in module.state_dict().items())


@pytest.mark.parametrize(("start", "expected"), [(40.0, 0.5), (20.0, 0.5), (5.0, 0.75), (-40.0, 0.75)])
def test_average_is_nearer_to_the_start_where_it_fits_the_training_images(start: float, expected: float) -> None:
    first, trained, source = classifier_of(start), classifier_of(6.0), TensorImages(IMAGES, LABELS)
    assert average_weights(trained, state_of(first), source, "auto", 0) == expected
    mean = classifier_of((1 - expected) * start + expected * 6.0)
    torch.testing.assert_close(trained.state_dict(), mean.state_dict())


def test_random_weights_are_not_averaged_and_pretrained_weights_are() -> None:
    backbone = SmallCNN()
    assert tune(backbone).settings.average == 1.0
    assert tune(backbone).settings.average < 1.0  # trained by the first call


@pytest.mark.parametrize(("count", "rate", "averages"), [(19, 0.001, {0.25}), (20, 0.003, {0.5, 0.75})])
def test_few_labels_change_a_pretrained_backbone_less(count: int, rate: float, averages: set[float]) -> None:
    backbone = SmallCNN()
    backbone.starts_from = "weights of a friend"
    train = IMAGES[:count], LABELS[:count]
    options: Any = {"steps": 1, "augment": None, "device": "cpu", "progress": False}
    settings = freeze_and_finetune(backbone, "linear", train, **options).settings
    assert settings.learning_rate == rate
    assert settings.average in averages
    given = freeze_and_finetune(backbone, "linear", train, learning_rate=0.002, average=0.9, **options).settings
    assert (given.learning_rate, given.average) == (0.002, 0.9)


def test_random_weights_learn_few_labels_at_the_usual_rate() -> None:
    settings = freeze_and_finetune(
        SmallCNN(), "linear", (IMAGES[:19], LABELS[:19]), steps=1, device="cpu", progress=False
    ).settings
    assert (settings.learning_rate, settings.average) == (0.003, 1.0)


@pytest.mark.parametrize("kind", ["record", "origin", "statistics"])
def test_pretrained_backbones_are_known(kind: str) -> None:
    backbone: Any = TinyBackbone()
    assert not is_pretrained(backbone)
    if kind == "record":
        task = Rotation(TinyBackbone())
        pretrain(task, IMAGES, steps=1, batch_size=8, device="cpu", progress=False)
        backbone = task.backbone
    elif kind == "origin":
        backbone.starts_from = "weights of a friend"
    else:
        backbone = nn.Sequential(nn.BatchNorm2d(3))
        assert not is_pretrained(backbone)
        backbone.train()(IMAGES)
    assert is_pretrained(backbone)


def test_statistics_are_the_mean_over_batches_of_training_images() -> None:
    norm, frozen = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
    backbone = nn.Sequential(norm, frozen, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    classifier = Classifier(backbone, LinearHead(3, 2)).eval()
    start = state_of(classifier)
    norm.running_mean = torch.full((3,), 9.0)
    norm.num_batches_tracked = torch.tensor(7)
    end = state_of(classifier)
    images, labels = random_images(100, size=16), torch.arange(100) % 2
    average_weights(classifier, start, TensorImages(images, labels), 0.5, 0, batch_size=33)
    rows = torch.randperm(100, generator=derived_generator(0, "average"))
    batches = [images[part] for part in torch.tensor_split(rows, 3)]
    mean = torch.stack([batch.mean((0, 2, 3)) for batch in batches]).mean(0)
    variance = torch.stack([batch.transpose(0, 1).flatten(1).var(1) for batch in batches]).mean(0)
    torch.testing.assert_close(norm.running_mean, mean)
    torch.testing.assert_close(norm.running_var, variance)
    assert (norm.momentum, int(norm.num_batches_tracked), norm.training) == (0.1, 7, False)
    assert all(torch.equal(values, end[name]) for name, values in state_of(classifier).items() if ".1." in name)


def test_statistics_of_few_images_are_averaged_like_weights() -> None:
    norm = nn.BatchNorm2d(3)
    classifier = Classifier(nn.Sequential(norm, nn.AdaptiveAvgPool2d(1), nn.Flatten()), LinearHead(3, 2)).eval()
    start = state_of(classifier)
    norm.running_mean = torch.full((3,), 8.0)
    images, labels = random_images(99, size=16), torch.arange(99) % 2
    average_weights(classifier, start, TensorImages(images, labels), 0.25, 0)
    torch.testing.assert_close(norm.running_mean, torch.full((3,), 2.0))


@pytest.mark.parametrize("part", [0.0, 1.0])
def test_statistics_of_the_ends_stay(part: float) -> None:
    norm = nn.BatchNorm2d(3)
    classifier = Classifier(nn.Sequential(norm, nn.AdaptiveAvgPool2d(1), nn.Flatten()), LinearHead(3, 2)).eval()
    start = state_of(classifier)
    norm.running_mean = torch.full((3,), 9.0)
    average_weights(classifier, start, TensorImages(IMAGES, LABELS), part, 0)
    torch.testing.assert_close(norm.running_mean, torch.full((3,), 9.0 * part))


def test_part_that_is_given_is_used() -> None:
    trained = classifier_of(20.0)
    assert average_weights(trained, state_of(classifier_of(-20.0)), TensorImages(IMAGES, LABELS), 0.25, 0) == 0.25
    torch.testing.assert_close(
        state_of(trained)["head.linear.bias"], state_of(classifier_of(-10.0))["head.linear.bias"]
    )


def test_loss_is_that_of_all_images_in_evaluation_mode() -> None:
    classifier = Classifier(SmallCNN(), LinearHead(256, 2)).train()
    found = training_loss(classifier, TensorImages(IMAGES, LABELS), 0)
    assert classifier.training
    expected = nn.functional.cross_entropy(classifier.eval()(IMAGES), LABELS)
    assert found == pytest.approx(expected.item(), abs=1e-5)


def test_average_of_zero_is_the_linear_probe() -> None:
    backbone = TinyBackbone()
    backbone.starts_from = "weights of a test"  # a head on random weights would read the last layer
    backbone.normalization.measure(IMAGES)
    probe = linear_probe(backbone, (IMAGES, LABELS))
    before = state_of(backbone)
    result = tune(backbone, average=0.0)
    assert all(torch.equal(values, before[name]) for name, values in backbone.state_dict().items())
    torch.testing.assert_close(result.classifier.predict_proba(IMAGES), probe.classifier.predict_proba(IMAGES))
    assert str(result.settings).endswith("average of 100% first and 0% trained weights")


def test_parts_of_one_training_lie_on_a_line() -> None:
    def weights(average: float) -> Tensor:
        torch.manual_seed(0)
        backbone = TinyBackbone()
        tune(backbone, average=average)
        return torch.cat([weight.detach().flatten() for weight in backbone.parameters()])

    torch.testing.assert_close(weights(0.5), (weights(0.0) + weights(1.0)) / 2)


def test_frozen_stages_stay_bit_identical() -> None:
    backbone = SmallCNN()
    backbone.normalization.measure(IMAGES)
    before = state_of(backbone)
    tune(backbone, average=0.3, trainable=["stage4"])
    changed = {name for name, values in backbone.state_dict().items() if not torch.equal(values, before[name])}
    assert changed
    assert all(name.startswith("stage4") for name in changed)


def test_head_alone_is_not_averaged() -> None:
    assert tune(TinyBackbone(), trainable="none", average=0.5).settings.average == 1.0


@pytest.mark.parametrize("average", [-0.1, 1.1, "mean", None, True, float("nan")])
def test_parts_outside_are_refused_before_anything_changes(average: Any) -> None:
    backbone = TinyBackbone()
    before = state_of(backbone)
    with pytest.raises(OptionError, match="average"):
        tune(backbone, average=average)
    assert all(torch.equal(values, before[name]) for name, values in backbone.state_dict().items())


def test_settings_name_the_average() -> None:
    settings = FinetuneSettings("all weights", 600, 61, "adamw", 0.001, None, "logistic regression", average=0.75)
    assert str(settings).endswith("head from logistic regression, average of 25% first and 75% trained weights")
