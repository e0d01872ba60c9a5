"""A decorator keeps the class it decorates; a registry gives classes of its kind."""

from __future__ import annotations

from typing import Any

from torch import Generator, Tensor
from typing_extensions import assert_type

import pretextkit as pk
from pretextkit.models import LinearHead, SmallCNN


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

assert_type(pk.pretext_tasks["typed-task"], type[pk.PretextTask[Any, Any]])
assert_type(pk.pretext_tasks.create("typed-task", Means(), angle=180.0), pk.PretextTask[Any, Any])
assert_type(pk.backbones["typed-backbone"], type[pk.Backbone])
assert_type(pk.backbones.create("typed-backbone"), pk.Backbone)
assert_type(pk.heads.get("typed-head"), type[pk.Head] | None)
for name, cls in pk.heads.items():
    assert_type(name, str)
    assert_type(cls, type[pk.Head])
assert_type("typed-head" in pk.heads, bool)
assert_type(list(pk.backbones), list[str])

pk.heads.register("linear-again", LinearHead)
pk.backbones.register("small-cnn-again", SmallCNN)
