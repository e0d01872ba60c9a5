"""Violations of the contract. Every marked line is an error, and no other line."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from pretextkit import Backbone, Labeled, Masked, PretextTask, SpatialBackbone, TaskOutput, TwoViews
from pretextkit.models import ResNet18, SmallCNN
from pretextkit.tasks import Autoencoder, Rotation, SimCLR

images, generator = torch.rand(2, 3, 32, 32), torch.Generator()


class Flat(Backbone):
    feature_dim = 3

    def forward(self, images: Tensor) -> Tensor:
        normalized: Tensor = self.normalization(images)
        return normalized.mean((2, 3))


class Inpainting(PretextTask[Masked, SpatialBackbone]):
    def views(self, images: Tensor, generator: Generator) -> Masked:
        return Masked(images, images[:, :1] > 0.5, images)

    def forward(self, batch: Masked) -> TaskOutput:
        return TaskOutput(self.backbone.feature_map(batch.visible).mean(), {})


Inpainting(Flat())  # E: it needs feature maps
Inpainting(SmallCNN).eval()  # E: a class, not a backbone


class WrongBatch(PretextTask[Labeled]):
    def views(self, images: Tensor, generator: Generator) -> TwoViews:  # E
        return TwoViews(images, images)

    def forward(self, batch: TwoViews) -> TaskOutput:  # E
        return TaskOutput(self.backbone(batch.a).mean(), {})


class WrongOutput(PretextTask[Labeled]):
    def views(self, images: Tensor) -> Labeled:  # E: no generator
        return Labeled(images, images)

    def forward(self, batch: Labeled) -> Tensor:  # E: no metrics
        return batch.images.mean()


class OwnStep(Rotation):
    def step(self, images: Tensor, generator: Generator) -> TaskOutput:  # E: final
        return self.forward(self.views(images, generator))


class NotABatch(PretextTask[Tensor]):  # E: a batch is a named tuple
    def views(self, images: Tensor, generator: Generator) -> Tensor:
        return images

    def forward(self, batch: Tensor) -> TaskOutput:
        return TaskOutput(batch.mean(), {})


class HalfTask(PretextTask[Labeled]):
    def views(self, images: Tensor, generator: Generator) -> Labeled:
        return Labeled(images, images)


flat = Rotation(Flat())
flat.backbone.stages(images)  # E: Flat has no feature maps
Autoencoder(Flat())  # E: it needs feature maps

HalfTask(SmallCNN())  # E: forward is abstract
Backbone()  # E: abstract
SpatialBackbone()  # E: abstract

Rotation(SmallCNN()).views(images)  # E
Rotation(SmallCNN()).forward(TwoViews(images, images))  # E
SimCLR(SmallCNN()).forward(Rotation(SmallCNN()).views(images, generator))  # E
Labeled(images)  # E
TaskOutput(0.5, {})  # E: a float has no gradient
TaskOutput(images.mean(), {"accuracy": 0.5})  # E
ResNet18(stem="large")  # E
SmallCNN(3)  # E: keyword only
