"""Five correct toy tasks in small methods: a planted bug overrides one method."""

from __future__ import annotations

import copy

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from pretextkit import Backbone, PretextTask, SpatialBackbone, TaskOutput
from pretextkit.batches import Labeled, Masked, PatchPair, TwoViews
from pretextkit.errors import ShapeError

OFFSETS = torch.tensor([(r, c) for r in (-1, 0, 1) for c in (-1, 0, 1) if (r, c) != (0, 0)])


def mlp(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, 64), nn.ReLU(), nn.Linear(64, outputs))


def at_least(images: Tensor, size: int) -> None:
    if min(images.shape[2:]) < size:
        raise ShapeError(f"images of at least {size} pixels", got=tuple(images.shape), fix="Enlarge them.")


class ToyRotation(PretextTask[Labeled]):
    """Predict the random quarter turns of each image."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__(backbone)
        self.head = nn.Linear(backbone.feature_dim, 4)

    def views(self, images: Tensor, generator: Generator) -> Labeled:
        if images.shape[2] != images.shape[3]:
            raise ShapeError("square images", got=tuple(images.shape), fix="Crop them.")
        turns = torch.randint(4, (len(images),), generator=generator)
        return Labeled(self.turn(images, turns, generator), self.label(turns))

    def turn(self, images: Tensor, turns: Tensor, generator: Generator) -> Tensor:
        return torch.stack([torch.rot90(image, int(k), (1, 2)) for image, k in zip(images, turns, strict=True)])

    def label(self, turns: Tensor) -> Tensor:
        return turns

    def features(self, images: Tensor) -> Tensor:
        features: Tensor = self.backbone(images)
        return features

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits, labels)

    def forward(self, batch: Labeled) -> TaskOutput:
        logits = self.head(self.features(batch.images))
        correct = logits.detach().argmax(1) == batch.labels
        return TaskOutput(self.loss(logits, batch.labels), {"accuracy": correct.float().mean()})


class ToyContext(PretextTask[PatchPair]):
    """Predict the position of a neighbor of the center patch in a jittered 3x3 grid."""

    jitter, growth = 2, 0

    def __init__(self, backbone: Backbone) -> None:
        super().__init__(backbone)
        self.head = mlp(2 * backbone.feature_dim, 8)

    def views(self, images: Tensor, generator: Generator) -> PatchPair:
        at_least(images, 24)
        cells = torch.tensor(images.shape[2:]) // 3
        size = int(cells.min()) - self.jitter + self.growth
        position = self.draw(len(images), generator)
        jitter = torch.randint(self.jitter + 1, (2, len(images), 2), generator=generator)
        center, neighbor = cells + jitter[0], self.corner(cells, position) + jitter[1]
        return PatchPair(self.cut(images, center, size), self.cut(images, neighbor, size), position)

    def draw(self, b: int, generator: Generator) -> Tensor:
        return torch.randint(8, (b,), generator=generator)

    def corner(self, cells: Tensor, position: Tensor) -> Tensor:
        return cells * (1 + OFFSETS[position])

    def cut(self, images: Tensor, corners: Tensor, size: int) -> Tensor:
        patches = [image[:, r : r + size, c : c + size] for image, (r, c) in zip(images, corners.tolist(), strict=True)]
        return torch.stack(patches)

    def forward(self, batch: PatchPair) -> TaskOutput:
        features = self.backbone(torch.cat((batch.center, batch.neighbor)))
        logits = self.head(torch.cat(features.chunk(2), 1))
        correct = logits.detach().argmax(1) == batch.position
        return TaskOutput(F.cross_entropy(logits, batch.position), {"accuracy": correct.float().mean()})


class ToyContrast(PretextTask[TwoViews]):
    """NT-Xent between two views of each image with random shift, brightness and contrast."""

    temperature = 0.2

    def __init__(self, backbone: Backbone) -> None:
        super().__init__(backbone)
        self.head = mlp(backbone.feature_dim, 32)

    def views(self, images: Tensor, generator: Generator) -> TwoViews:
        return TwoViews(self.view(images, generator), self.view(images, generator))

    def view(self, images: Tensor, generator: Generator) -> Tensor:
        draws = torch.rand(4, len(images), generator=generator)
        height, width = images.shape[2:]
        rows = (draws[0] * height * 0.3).long()[:, None] + torch.arange(height)
        columns = (draws[1] * width * 0.3).long()[:, None] + torch.arange(width)
        index = torch.arange(len(images))[:, None, None]
        shifted = images[index, :, rows[:, :, None] % height, columns[:, None] % width].permute(0, 3, 1, 2)
        gain, offset = 0.8 + 0.4 * draws[2], 0.2 * (draws[3] - 0.5)
        return shifted.mul(gain[:, None, None, None]).add(offset[:, None, None, None]).clamp(0, 1)

    def similarities(self, z: Tensor) -> Tensor:
        similarities = F.normalize(z) @ F.normalize(z).T / self.temperature
        return similarities.masked_fill(torch.eye(len(z), dtype=torch.bool), -torch.inf)

    def loss(self, z: Tensor) -> Tensor:
        return F.cross_entropy(self.similarities(z), torch.arange(len(z)).roll(len(z) // 2))

    def forward(self, batch: TwoViews) -> TaskOutput:
        z = self.head(self.backbone(torch.cat(batch))).float()
        return TaskOutput(self.loss(z), self.metrics(z))

    def metrics(self, z: Tensor) -> dict[str, Tensor]:
        return {"spread": F.normalize(z.detach()).std(0, correction=0).mean()}


class ToyInpainting(PretextTask[Masked, SpatialBackbone]):
    """Predict the pixels of a hidden rectangle; the loss is over hidden pixels."""

    def __init__(self, backbone: SpatialBackbone) -> None:
        super().__init__(backbone)
        self.head = nn.Sequential(
            nn.Conv2d(backbone.feature_dim, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 3 * 16, 1), nn.PixelShuffle(4)
        )

    def views(self, images: Tensor, generator: Generator) -> Masked:
        at_least(images, 16)
        height, width = images.shape[2:]
        draws = torch.rand(2, len(images), 1, generator=generator)
        row, column = torch.arange(height), torch.arange(width)
        top, left = (draws[0] * height * 0.6).long(), (draws[1] * width * 0.6).long()
        rows, columns = (row >= top) & (row < top + height // 3), (column >= left) & (column < left + width // 3)
        mask = (rows[:, :, None] & columns[:, None])[:, None]
        return Masked(self.hide(images, mask), mask, images)

    def hide(self, images: Tensor, mask: Tensor) -> Tensor:
        return images.masked_fill(mask, 0.5)

    def reconstruct(self, visible: Tensor) -> Tensor:
        return F.interpolate(self.head(self.backbone.feature_map(visible)), visible.shape[2:], mode="bilinear")

    def error(self, prediction: Tensor, batch: Masked) -> Tensor:
        squared = (prediction - batch.target).square().mean(1, keepdim=True)
        return squared[batch.mask].mean()

    def forward(self, batch: Masked) -> TaskOutput:
        loss = self.error(self.reconstruct(batch.visible), batch)
        return TaskOutput(loss, {"mse": loss.detach()})


class ToyMomentum(ToyContrast):
    """InfoNCE against the features of a momentum copy."""

    momentum = 0.9

    def __init__(self, backbone: Backbone) -> None:
        super().__init__(backbone)
        self.copy = self.make_copy()

    def online(self) -> nn.ModuleList:
        return nn.ModuleList((self.backbone, self.head))

    def make_copy(self) -> nn.ModuleList:
        return copy.deepcopy(self.online()).requires_grad_(False)

    @torch.no_grad()
    def after_step(self) -> None:
        for lagging, leading in zip(self.copy.parameters(), self.online().parameters(), strict=True):
            self.move(lagging, leading)

    def move(self, lagging: Tensor, leading: Tensor) -> None:
        lagging.lerp_(leading, 1 - self.momentum)

    def forward(self, batch: TwoViews) -> TaskOutput:
        z = self.head(self.backbone(batch.a)).float()
        with torch.no_grad():
            keys = self.copy[1](self.copy[0](batch.b)).float()
        logits = F.normalize(z) @ F.normalize(keys).T / self.temperature
        return TaskOutput(F.cross_entropy(logits, torch.arange(len(z))), self.metrics(z))


COMPARES = {"parts_have_the_gradient_of_the_batch": "compares the images of a batch"}
"""The exemption of ToyContrast and ToyMomentum."""

TOY_TASKS = (ToyRotation, ToyContext, ToyContrast, ToyInpainting, ToyMomentum)
