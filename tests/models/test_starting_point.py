"""Results and files say where weights come from, if they were trained before."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import nn

import pretextkit as pk
from pretextkit._starting_point import starting_point
from pretextkit.comparison._result import ComparisonRun
from tests.helpers import random_images

F = pk.functional
NAME = "torchvision ResNet18 IMAGENET1K_V1, trained on ImageNet labels"
IMAGES, OTHERS = random_images(16, size=32), random_images(16, size=32, seed=1)
LABELS = torch.arange(16) % 2
QUIET: dict[str, Any] = {"device": "cpu", "progress": False}

Build = Callable[[str | None], pk.SpatialBackbone]


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch) -> Build:
    """Build torchvision's ResNet-18 by name; its trained weights are random numbers instead of a download."""
    state = torchvision.models.resnet18().state_dict()
    kind = type(torchvision.models.ResNet18_Weights.IMAGENET1K_V1)
    monkeypatch.setattr(kind, "get_state_dict", lambda self, *_, **__: state)

    def make(weights: str | None) -> pk.SpatialBackbone:
        torch.manual_seed(0)
        backbone = pk.backbones.create("torchvision/resnet18", weights=weights)
        assert isinstance(backbone, pk.SpatialBackbone)
        return backbone

    return make


def small(trained: bool) -> pk.SpatialBackbone:
    """Wrap a network of one convolution, whose BatchNorm has learned if it is trained."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
    if trained:
        network(torch.rand(4, 3, 32, 32))
    return pk.models.wrap(network, normalization=((0,), (1,)), size=32)


def results(backbone: Any, out: Path) -> dict[str, Any]:
    """Return a result of each function, before and after pretraining."""
    test, masks = (OTHERS, LABELS), (IMAGES, torch.arange(2).repeat(16, 32, 16))
    data, split = (IMAGES, LABELS), {"steps": 1, "batch_size": 8, **QUIET}
    return {
        "knn": F.knn_probe(backbone, data),
        "probe": F.linear_probe(backbone, data, test, layers="all", pool=1),
        "probe of one layer": F.linear_probe(backbone, data, test, layers="last"),
        "segmentation": F.segmentation_probe(backbone, masks, masks, steps=1),
        "pretrain": F.pretrain(pk.tasks.Rotation(backbone), IMAGES, checkpoint=out, **split),
        "knn after pretraining": F.knn_probe(backbone, data),
        "finetune": F.freeze_and_finetune(backbone, "linear", data, **split),
        "fixmatch": F.fixmatch(backbone, "linear", data, unlabeled=OTHERS, **split),
    }


def test_every_result_says_where_trained_weights_come_from(build: Build, tmp_path: Path) -> None:
    found = results(build("DEFAULT"), tmp_path / "run")
    assert [name for name, each in found.items() if f"; starts from {NAME}" not in str(each)] == []
    assert found["pretrain"].settings.starts_from == NAME
    assert json.loads((tmp_path / "run" / "settings.json").read_text())["starts_from"] == NAME
    for name in ("probe", "finetune", "fixmatch"):
        classifier = found[name].classifier
        classifier.save(tmp_path / f"{name}.pt")
        again = pk.load_classifier(tmp_path / f"{name}.pt")
        assert again.trained["starts from"] == NAME
        assert f"; starts from {NAME}" in str(F.knn_probe(again.backbone, (IMAGES, LABELS)))


def test_random_weights_are_not_mentioned(tmp_path: Path) -> None:
    found = results(small(trained=False), tmp_path / "run")
    assert [name for name, each in found.items() if "starts from" in str(each)] == []
    assert json.loads((tmp_path / "run" / "settings.json").read_text())["starts_from"] is None
    assert "starts from" not in found["probe"].classifier.trained


def test_saved_backbone_and_run_keep_the_start(build: Build, tmp_path: Path) -> None:
    backbone = build("DEFAULT")
    pk.save_backbone(backbone, tmp_path / "backbone.pt")
    assert pk.load_backbone(tmp_path / "backbone.pt").starts_from == NAME
    task = pk.tasks.Rotation(backbone)
    F.pretrain(task, IMAGES, steps=1, batch_size=8, checkpoint=tmp_path / "run", **QUIET)
    assert pk.load_backbone(tmp_path / "run").starts_from == NAME
    assert pk.load_backbone(tmp_path / "run", into=build(None)).starts_from == NAME


@pytest.mark.parametrize("way", ["resume", "extend", "init"])
def test_run_from_the_weights_of_another_run_has_its_start(build: Build, tmp_path: Path, way: str) -> None:
    first: dict[str, Any] = {"batch_size": 8, "checkpoint": tmp_path / "run", **QUIET}
    F.pretrain(pk.tasks.Rotation(build("DEFAULT")), IMAGES, steps=1, **first)
    backbone = build(None)
    second = {**first, "steps": 2 if way == "extend" else 1}
    if way == "init":
        second |= {"checkpoint": tmp_path / "other", "init": tmp_path / "run"}
    result = F.pretrain(pk.tasks.Rotation(backbone), IMAGES, **second)
    assert result.settings.starts_from == backbone.starts_from == NAME
    assert pk.load_backbone(second["checkpoint"]).starts_from == NAME


def test_run_of_an_earlier_version_keeps_what_the_caller_knows(build: Build, tmp_path: Path) -> None:
    """Its checkpoint has no such entry."""
    from pretextkit.training import _checkpoint

    options: dict[str, Any] = {"steps": 1, "batch_size": 8, "checkpoint": tmp_path / "run", **QUIET}
    F.pretrain(pk.tasks.Rotation(build("DEFAULT")), IMAGES, **options)
    saved = _checkpoint.load_checkpoint(tmp_path / "run")
    assert saved is not None
    about = json.loads(saved.about)
    del about["starts from"]
    _checkpoint.save_checkpoint(tmp_path / "run", saved.state, saved.identity, json.dumps(about))
    task = pk.tasks.Rotation(build("DEFAULT"))
    assert F.pretrain(task, IMAGES, **options).settings.starts_from == NAME


def test_start_is_found_around_and_inside_the_backbone(build: Build) -> None:
    backbone = build("DEFAULT")
    around: list[Any] = [
        pk.tasks.SimCLR(backbone), nn.Sequential(backbone, nn.Linear(512, 2)), lambda images: backbone(images),
        backbone.feature_map, torch.compile(backbone),
    ]  # fmt: skip
    assert [starting_point(each) for each in around] == [NAME] * len(around)
    assert starting_point(nn.Identity()) is None
    assert starting_point(lambda images: images) is None


def test_compare_says_which_rows_start_from_trained_weights() -> None:
    def table(trained: bool) -> list[list[str]]:
        result = F.compare(
            ["rotation"], lambda: small(trained), (IMAGES, LABELS), (OTHERS, LABELS), epochs=1, batch_size=8,
            label_fractions=[0.5], finetune_steps=1, **QUIET,
        )  # fmt: skip
        runs = [ComparisonRun.from_dict(run.to_dict()) for run in result.runs]
        assert [run.settings.get("starts from") for run in runs] == [text if trained else None] * 3
        return result.table()

    text = "trained weights of Sequential"
    header, *rows = table(True)
    assert header[-1] == "Starts from"
    assert [row[-1] for row in rows] == [text] * 3
    assert "Starts from" not in table(False)[0]
