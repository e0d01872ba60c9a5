from __future__ import annotations

import math
import re
import warnings
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn

import pretextkit as pk
from pretextkit import PretextTask, TaskOutput, TwoViews
from pretextkit.errors import CollapseWarning, DivergenceError
from pretextkit.functional import pretrain
from pretextkit.losses import feature_spread, rankme
from pretextkit.testing import TinyBackbone, noise_images, toy_images
from pretextkit.training import _objectives
from pretextkit.training._collapse import (
    FEWEST,
    batch_norm_warmed_up,
    detect_collapse,
    feature_quality,
    monitor_batch_size,
)
from tests.helpers import toy_task


class Together(PretextTask[TwoViews]):
    """Attract the views of an image and repel nothing: the classic collapse."""

    def views(self, images: Tensor, generator: Generator) -> TwoViews:
        return TwoViews(images, (images + 0.1 * torch.randn(images.shape, generator=generator)).clamp(0, 1))

    def forward(self, batch: TwoViews) -> TaskOutput:
        a, b = (nn.functional.normalize(self.backbone(view)) for view in batch)
        everyone = torch.cat([a, b]).mean(0)
        return TaskOutput((a - b).square().sum(1).mean() + (a - everyone).square().sum(1).mean(), {})


TOYS = toy_images(64, size=16, generator=Generator().manual_seed(0))
RUN: dict[str, Any] = {"epochs": 30, "batch_size": 32, "learning_rate": 0.01, "device": "cpu", "progress": False}


def backbone() -> TinyBackbone:
    torch.manual_seed(0)
    return TinyBackbone()


def test_loss_without_negatives_warns_of_collapse_once() -> None:
    task = Together(backbone())
    with pytest.warns(CollapseWarning) as caught:
        result = pretrain(task, TOYS, **RUN)
    (warning,) = caught
    text = str(warning.message)
    assert text.startswith(
        "The backbone's features have collapsed: all images have nearly the same features (on 32 training images"
    )
    assert "where 0 is a single point, and their RankMe 1." in text
    assert "of at most 32)" in text
    assert "a term that keeps images apart, such as negatives, a variance term, clusters of equal size, a" in text
    assert result.history.column("spread")[0] > 0.01 > result.history.last["spread"]
    assert result.history.last["rankme"] < result.history.column("rankme")[0]


def test_detect_collapse_names_dead_units() -> None:
    (finding,) = detect_collapse(TOYS, torch.zeros(64, 8), 0.0, 1.0)
    assert finding.category is CollapseWarning
    assert re.search(r"all features are 0 \(.*Dead units give no gradient: lower lear", finding.text)


def test_detect_collapse_names_a_single_direction() -> None:
    line = torch.linspace(-1, 1, 64)[:, None] * torch.ones(1, 8)
    (finding,) = detect_collapse(TOYS, line, feature_spread(line).item(), rankme(line).item())
    assert re.search(r"differ along one direction only \(.*give its head more outputs", finding.text)


@pytest.mark.parametrize(
    "name", [name for name in pk.pretext_tasks if pk.pretext_tasks[name].__module__.startswith("pretextkit.")]
)
@pytest.mark.parametrize("draw", [toy_images, noise_images])
def test_built_in_task_gives_no_collapse_warning(name: str, draw: Any) -> None:
    images = draw(64, size=32, generator=Generator().manual_seed(0))
    with warnings.catch_warnings():
        warnings.simplefilter("error", CollapseWarning)
        torch.manual_seed(0)
        result = pretrain(toy_task(name), images, **RUN | {"epochs": 4, "learning_rate": 0.003})
    assert result.history.last["spread"] > 0.02
    assert result.history.last["rankme"] > 2


def test_no_collapse_warning_before_batchnorm_is_warm() -> None:
    """Before its statistics are those of the features, all features look alike in evaluation mode."""
    images = pk.data.load("sample").train_images[:120]
    task = pk.tasks.Rotation(pk.models.SmallCNN())
    with warnings.catch_warnings():
        warnings.simplefilter("error", CollapseWarning)
        result = pretrain(task, images, **RUN | {"epochs": 1, "learning_rate": 0.001})
    assert result.history.last["spread"] < 0.05  # 0.4 with the statistics of all these images
    assert not batch_norm_warmed_up(task.backbone)


@pytest.mark.parametrize(("steps", "warned"), [(24, False), (25, True)])  # each brings two batches, one a view
def test_collapse_warning_starts_after_fifty_batches(steps: int, warned: bool) -> None:
    class Flat(pk.Backbone):
        feature_dim = 4

        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(4)
            nn.init.zeros_(self.norm.weight)
            nn.init.ones_(self.norm.bias)

        def forward(self, images: Tensor) -> Tensor:
            return self.norm(self.normalization(images).mean((2, 3)) @ torch.ones(3, 4))  # type: ignore[no-any-return]

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        pretrain(Together(Flat()), TOYS, **RUN | {"epochs": None, "steps": steps, "learning_rate": 0.0})
    assert (
        sum(each.category is CollapseWarning for each in caught) == warned
    )  # another warning says that nothing is learned


def test_history_has_quality_of_each_epochs_last_batch() -> None:
    task = Together(backbone())
    images = TOYS[:FEWEST]  # as one batch: all images, in some order
    result = pretrain(task, images, **RUN | {"epochs": 1, "batch_size": FEWEST})
    _, quality = feature_quality(task.backbone, images)
    assert result.history.last["spread"] == pytest.approx(quality["spread"], rel=1e-4)
    assert result.history.last["rankme"] == pytest.approx(quality["rankme"], rel=1e-4)


@pytest.mark.parametrize("count", [100, 1500])
def test_monitor_batch_size_is_small_in_short_epochs(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def look(backbone: pk.Backbone, images: Tensor) -> tuple[Tensor, dict[str, float]]:
        seen.append(len(images))
        return feature_quality(backbone, images)

    monkeypatch.setattr(_objectives, "feature_quality", look)
    images = toy_images(count, size=8, generator=Generator().manual_seed(1))
    pretrain(pk.tasks.Rotation(backbone()), images, **RUN | {"epochs": 1, "batch_size": 100})
    assert seen == [{100: 32, 1500: 50}[count]]
    assert monitor_batch_size(10**6) == 256


def test_feature_quality_restores_the_backbone() -> None:
    small = pk.models.SmallCNN()
    before = {name: value.clone() for name, value in small.state_dict().items()}
    features, _ = feature_quality(small, toy_images(300, size=16, generator=Generator().manual_seed(1)))
    assert len(features) == 300
    assert not features.requires_grad
    assert small.training
    assert all(torch.equal(value, before[name]) for name, value in small.state_dict().items())


@pytest.mark.parametrize(
    ("images", "features"),
    [
        (TOYS, torch.eye(64)),
        (TOYS[:1].expand(64, -1, -1, -1), torch.ones(64, 8)),  # one image, so one feature
        (TOYS[: FEWEST - 1], torch.ones(FEWEST - 1, 8)),
    ],
)
def test_detect_collapse_ignores_healthy_or_too_few_features(images: Tensor, features: Tensor) -> None:
    assert not detect_collapse(images, features, feature_spread(features).item(), rankme(features).item())


def test_feature_quality_of_nan_features_is_nan() -> None:
    broken = backbone()
    nn.init.constant_(broken.layers[0][0].weight, math.nan)  # type: ignore[index]
    features, quality = feature_quality(broken, TOYS)
    assert math.isnan(quality["spread"])
    assert math.isnan(quality["rankme"])
    assert not detect_collapse(TOYS, features, **{"spread": math.nan, "rank": math.nan})
    with pytest.raises(DivergenceError):
        pretrain(Together(backbone()), TOYS, **RUN | {"learning_rate": 1e38, "warmup": 0.0, "epochs": 2})
