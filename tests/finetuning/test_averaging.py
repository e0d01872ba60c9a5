from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pretextkit.errors import OptionError
from pretextkit.finetuning._averaging import is_pretrained, mix_weights, state_of
from pretextkit.finetuning._recipe import FinetuneSettings
from pretextkit.functional import FinetuneResult, freeze_and_finetune, linear_probe, pretrain
from pretextkit.models import SmallCNN
from pretextkit.tasks import Rotation
from pretextkit.testing import TinyBackbone
from tests.helpers import random_images

LABELS = torch.arange(24) % 2
IMAGES = random_images(24, size=16) * 0.5 + 0.5 * LABELS[:, None, None, None]


def tune(backbone: nn.Module, **options: Any) -> FinetuneResult:
    options = {"steps": 4, "augment": None, "device": "cpu", "progress": False, **options}
    return freeze_and_finetune(backbone, "linear", (IMAGES, LABELS), **options)


@pytest.mark.parametrize("part", [0.0, 0.25, 0.5, 1.0])
def test_mixed_weights_lie_between_the_ends(part: float) -> None:
    module, other = nn.Linear(2, 3), nn.Linear(2, 3)
    start, end = state_of(module), state_of(other)
    mix_weights(module, start, end, part)
    for name, values in module.state_dict().items():
        torch.testing.assert_close(values, (1 - part) * start[name] + part * end[name])


def test_mixed_statistics_count_the_batches_of_the_end() -> None:
    module, rows = nn.BatchNorm1d(2), torch.randn(8, 2, generator=torch.Generator().manual_seed(0))
    module.train()(rows - 5)
    start = state_of(module)
    module(rows + 5)
    end = state_of(module)
    mix_weights(module, start, end, 0.5)
    torch.testing.assert_close(module.running_mean, (start["running_mean"] + end["running_mean"]) / 2)
    torch.testing.assert_close(module.running_var, (start["running_var"] + end["running_var"]) / 2)
    assert module.num_batches_tracked == 2


@pytest.mark.parametrize(("part", "expected"), [(0.0, 0.0), (0.25, 8.0), (1.0, 8.0)])
def test_statistics_before_the_first_batch_are_left_out(part: float, expected: float) -> None:
    module = nn.BatchNorm1d(2)
    start = state_of(module)
    end = {**start, "running_mean": torch.full((2,), 8.0), "weight": torch.full((2,), 2.0)}
    mix_weights(module, start, end, part)
    torch.testing.assert_close(module.running_mean, torch.full((2,), expected))
    torch.testing.assert_close(module.weight.detach(), torch.full((2,), 1 + part))


def test_values_that_did_not_change_stay_bit_identical() -> None:
    module = nn.Linear(50, 50)
    before = state_of(module)
    mix_weights(module, before, state_of(module), 0.3)
    assert all(torch.equal(values, before[name]) for name, values in module.state_dict().items())


def test_random_weights_are_not_averaged_and_pretrained_weights_are() -> None:
    backbone = SmallCNN()
    assert tune(backbone).settings.average == 1.0
    assert tune(backbone).settings.average < 1.0  # trained by the first call


@pytest.mark.parametrize(("count", "average"), [(19, 0.25), (20, 0.5), (199, 0.5), (200, 0.75)])
def test_more_labels_change_a_pretrained_backbone_more(count: int, average: float) -> None:
    backbone = SmallCNN()
    backbone.starts_from = "weights of a friend"
    rows = torch.arange(count) % len(IMAGES)
    train = IMAGES[rows], LABELS[rows]
    options: Any = {"steps": 1, "augment": None, "device": "cpu", "progress": False}
    settings = freeze_and_finetune(backbone, "linear", train, **options).settings
    assert (settings.learning_rate, settings.average) == (0.001, average)
    given = freeze_and_finetune(backbone, "linear", train, learning_rate=0.002, average=0.9, **options).settings
    assert (given.learning_rate, given.average) == (0.002, 0.9)


def test_named_stages_learn_at_the_rate_of_pretrained_weights() -> None:
    backbone = SmallCNN()
    backbone.starts_from = "weights of a friend"
    settings = tune(backbone, trainable=["stage4"]).settings
    assert (settings.learning_rate, settings.average) == (0.001, 0.5)


def test_random_weights_learn_at_a_higher_rate() -> None:
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


@pytest.mark.parametrize("part", [0.0, 0.25, 1.0])
def test_statistics_are_averaged_like_weights(part: float) -> None:
    """All parts of one training, with its statistics, lie on a line."""

    def statistics(average: float) -> Tensor:
        torch.manual_seed(0)
        backbone = SmallCNN().train()
        backbone(IMAGES)
        tune(backbone, average=average)
        return torch.cat([values.flatten() for name, values in backbone.state_dict().items() if ".running_" in name])

    first, last = statistics(0.0), statistics(1.0)
    assert not torch.allclose(first, last)
    torch.testing.assert_close(statistics(part), torch.lerp(first, last, part))


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
