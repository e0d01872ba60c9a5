"""Decorators keep the class they decorate; registries give built-in classes with their options."""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator, Tensor
from typing_extensions import assert_type

import pretextkit as pk
from pretextkit.models import LinearHead, ResNet18, SmallCNN


@pk.register_pretext_task("typed-task")
class Task(pk.PretextTask[pk.Labeled]):
    def __init__(self, backbone: pk.Backbone, *, angle: float = 90.0) -> None:
        super().__init__(backbone)
        self.angle = angle

    def views(self, images: Tensor, generator: Generator) -> pk.Labeled:
        return pk.Labeled(images, images.sum((1, 2, 3)).long())

    def forward(self, batch: pk.Labeled) -> pk.TaskOutput:
        return pk.TaskOutput(self.backbone(batch.images).mean(), {})


@pk.register_backbone("typed-backbone")
class Means(pk.Backbone):
    feature_dim = 3

    def forward(self, images: Tensor) -> Tensor:
        normalized: Tensor = self.normalization(images)
        return normalized.mean((2, 3))


@pk.register_head("typed-head")
class Scale(pk.Head):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, features: Tensor) -> Tensor:
        return self.factor * features


assert_type(Task, type[Task])
assert_type(Task(Means(), angle=180.0).angle, float)
assert_type(Means, type[Means])
assert_type(Means(in_channels=1).feature_dim, int)
assert_type(Scale, type[Scale])
assert_type(Scale(2.0).factor, float)

# A built-in name gives its class.
images = torch.rand(2, 3, 32, 32)
small = pk.backbones["small-cnn"]()
assert_type(small, SmallCNN)
assert_type(pk.backbones["resnet18"](stem="imagenet"), ResNet18)
assert_type(pk.pretext_tasks["simclr"](small, temperature=0.2).views(images, Generator()), pk.TwoViews)
assert_type(pk.pretext_tasks["autoencoder"](small, bottleneck=8).views(images, Generator()), pk.ImageToImage)
assert_type(pk.heads["linear"](small.feature_dim, 10), LinearHead)


# Any other name gives a class of the registry's kind that takes any options.
def from_configuration(task_name: str, backbone_name: str, head_name: str) -> None:
    backbone: pk.Backbone = pk.backbones[backbone_name](stem="imagenet")
    task: pk.PretextTask[Any, Any] = pk.pretext_tasks[task_name](backbone, temperature=0.2)
    head: pk.Head = pk.heads[head_name](backbone.feature_dim, 10, hidden_dim=64)
    assert_type(task.step(images, Generator()), pk.TaskOutput)
    assert_type(head(backbone(images)), Tensor)


plugin: type[pk.PretextTask[Any, Any]] = pk.pretext_tasks["typed-task"]
assert_type(pk.pretext_tasks.create("typed-task", Means(), angle=180.0), pk.PretextTask[Any, Any])
plugin_backbone: type[pk.Backbone] = pk.backbones["typed-backbone"]
assert_type(pk.backbones.create("typed-backbone"), pk.Backbone)
assert_type(pk.heads.get("typed-head"), type[pk.Head] | None)
for name, cls in pk.heads.items():
    assert_type(name, str)
    assert_type(cls, type[pk.Head])
assert_type("typed-head" in pk.heads, bool)
assert_type(list(pk.backbones), list[str])

pk.heads.register("linear-again", LinearHead)
pk.backbones.register("small-cnn-again", SmallCNN)
