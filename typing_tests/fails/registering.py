"""Wrong uses of registries and decorators. Every marked line is an error, and no other line."""

from __future__ import annotations

from torch import Generator, Tensor, nn

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


# The decorated class kept its constructor.
Task(SmallCNN(), angle="right")  # E
Task(SmallCNN(), 180.0)  # E
Task()  # E

# Each decorator and registry takes its own kind.
pk.register_pretext_task("linear")(nn.Linear)  # E
pk.register_pretext_task("small-cnn")(SmallCNN)  # E
pk.register_backbone("linear")(LinearHead)  # E
pk.register_head("small-cnn")(SmallCNN)  # E
pk.heads.register("small-cnn", SmallCNN)  # E
pk.heads.register(LinearHead, "linear")  # E
pk.register_pretext_task(Task)  # E

# A built-in name gives a class that refuses wrong options.
pk.backbones["resnet18"](stems="imagenet")  # E
pk.backbones["resnet18"](stem="large")  # E
pk.backbones["small-cnn"](3)  # E: keyword only
pk.pretext_tasks["simclr"](SmallCNN(), temprature=0.2)  # E
pk.pretext_tasks["simclr"](SmallCNN(), temperature="low")  # E
pk.pretext_tasks["simclr"]()  # E: no backbone
pk.heads["linear"](256)  # E: no out_dim

# Each registry gives its own kind, and is no dictionary to write to.
head: type[pk.Head] = pk.backbones["small-cnn"]  # E
backbone: pk.Backbone = pk.heads.create("linear", 8, 2)  # E
pk.backbones["mine"] = SmallCNN  # E
del pk.backbones["small-cnn"]  # E

# Names that do not exist.
print(pk.nothing)  # E
print(pk.heads.nothing)  # E
