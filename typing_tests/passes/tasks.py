"""A task's type arguments reach its backbone, its views and its forward."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Generator, Tensor
from typing_extensions import assert_type

from pretextkit import Backbone, Head, Labeled, Masked, PatchPair, PretextTask, SpatialBackbone, TaskOutput, TwoViews
from pretextkit.models import ConvDecoder, ResNet18, SmallCNN
from pretextkit.tasks import JigsawContext, Rotation, SimCLR


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

assert_type(Rotation(ResNet18(stem="imagenet")).backbone, Backbone)
assert_type(Rotation(SmallCNN()).views(images, generator), Labeled)
assert_type(SimCLR(SmallCNN(), temperature=0.2).views(images, generator), TwoViews)
assert_type(JigsawContext(SmallCNN()).views(images, generator), PatchPair)
assert_type(SmallCNN().stages(images), tuple[Tensor, ...])


def any_task(task: PretextTask[Labeled]) -> Labeled:
    return task.views(images, generator)


assert_type(any_task(Rotation(SmallCNN())), Labeled)
