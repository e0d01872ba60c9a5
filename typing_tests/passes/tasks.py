"""Tasks keep the types of their backbone and of their views."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Generator, Tensor
from typing_extensions import assert_type

from pretextkit import Head, Labeled, Masked, PatchPair, PretextTask, SpatialBackbone, TaskOutput, TwoViews
from pretextkit.models import ConvDecoder, ResNet18, SmallCNN
from pretextkit.tasks import Autoencoder, JigsawContext, Rotation, SimCLR


class Inpainting(PretextTask[Masked, SpatialBackbone]):
    def __init__(self, backbone: SpatialBackbone, decoder: Head) -> None:
        super().__init__(backbone)
        self.decoder = decoder

    def views(self, images: Tensor, generator: Generator) -> Masked:
        mask = torch.zeros_like(images[:, :1], dtype=torch.bool)
        return Masked(images, mask, images)

    def forward(self, batch: Masked) -> TaskOutput:
        assert_type(self.backbone, SpatialBackbone)
        features = self.backbone.feature_map(batch.visible)
        assert_type(features, Tensor)
        return TaskOutput((self.decoder(features) - batch.target).square().mean(), {})


images, generator = torch.rand(2, 3, 32, 32), torch.Generator()

inpainting = Inpainting(SmallCNN(), ConvDecoder(256))
assert_type(inpainting.backbone, SpatialBackbone)
assert_type(inpainting.views(images, generator), Masked)
assert_type(inpainting.step(images, generator), TaskOutput)
assert_type(inpainting.step(images, generator).metrics, Mapping[str, Tensor])

small = SmallCNN()
assert_type(Rotation(small).backbone, SmallCNN)
assert_type(Rotation(ResNet18(stem="imagenet")).backbone, ResNet18)
assert_type(SimCLR(small, temperature=0.2).backbone, SmallCNN)
assert_type(JigsawContext(small).backbone, SmallCNN)
assert_type(Autoencoder(small).backbone, SmallCNN)
assert_type(Rotation(SmallCNN()).views(images, generator), Labeled)
assert_type(SimCLR(SmallCNN(), temperature=0.2).views(images, generator), TwoViews)
assert_type(JigsawContext(SmallCNN()).views(images, generator), PatchPair)
assert_type(SmallCNN().stages(images), tuple[Tensor, ...])


def any_task(task: PretextTask[Labeled]) -> Labeled:
    return task.views(images, generator)


# A task of a SmallCNN is a task of a Backbone.
rotation = Rotation(small)
assert_type(any_task(rotation), Labeled)
any_backbone: Rotation = rotation
