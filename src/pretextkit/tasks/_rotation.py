"""Rotation: predict the rotation of an image."""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn

from pretextkit.batches import Labeled
from pretextkit.contracts import BackboneT, PretextTask, TaskOutput
from pretextkit.models.heads import LinearHead
from pretextkit.registries import register_pretext_task
from pretextkit.views import all_rotations
from pretextkit.views._augmentation import Augmentation, LightAugmentation, augmented, check_augmentation

__all__ = ["Rotation"]

ANGLES = (0, 90, 180, 270)


@register_pretext_task("rotation")
class Rotation(PretextTask[Labeled, BackboneT]):
    """Predict by which multiple of 90 degrees an image was rotated.

    To know the orientation of an object, a network has to recognize it (Gidaris et al. 2018, arXiv 1803.07728). A batch
    holds all four rotations of every image, so a step costs four forward passes per image. Features of middle stages
    transfer better than features of the last stage: probe with ``layers="all"``.

    All four rotations show the same crop and colors of an image, so neither gives the angle away. Without augmentation,
    thousands of images are memorized within some epochs.

    Not suited to textures, round objects and aerial photographs, which have no upright orientation.

    Metrics: ``accuracy`` (chance is 0.25) and ``accuracy_0``, ``accuracy_90``, ``accuracy_180``, ``accuracy_270``.

    Args:
        backbone: Backbone to train.
        augmentation: Augmentation of each image before its rotation; None leaves the images as they are. The default
            mirrors no image, because digits and letters have no mirror image; ``LightAugmentation(flip=0.5)`` suits
            photographs.

    Raises:
        OptionError: ``augmentation`` is no function of images and a generator.

    Example:
        >>> from pretextkit.models import SmallCNN
        >>> task = Rotation(SmallCNN())
        >>> batch = task.views(torch.rand(2, 3, 32, 32), torch.Generator())
        >>> batch.images.shape, batch.labels
        (torch.Size([8, 3, 32, 32]), tensor([0, 0, 1, 1, 2, 2, 3, 3]))
        >>> sorted(task(batch).metrics)
        ['accuracy', 'accuracy_0', 'accuracy_180', 'accuracy_270', 'accuracy_90']
    """

    chance_accuracy = 1 / len(ANGLES)
    label_names = tuple(f"{angle}°" for angle in ANGLES)

    def __init__(
        self,
        backbone: BackboneT,
        *,
        augmentation: Augmentation | None = LightAugmentation(),  # noqa: B008 - a tuple, which cannot change
    ) -> None:
        super().__init__(backbone)
        self.augmentation = check_augmentation(augmentation)
        self.head = LinearHead(backbone.feature_dim, len(ANGLES))

    def views(self, images: Tensor, generator: Generator) -> Labeled:
        """Augment images ``b c h h``, and rotate each by all four angles.

        Raises:
            ShapeError: The images are not square.
        """
        return self.rotate(augmented(self.augmentation, images, generator))

    def rotate(self, images: Tensor) -> Labeled:
        """Rotate images ``b c h h`` by all four angles, without augmentation.

        Raises:
            ShapeError: The images are not square.
        """
        rotated = all_rotations(images)
        labels = torch.arange(len(ANGLES), device=images.device).repeat_interleave(len(images))
        return Labeled(rotated, labels)

    def forward(self, batch: Labeled) -> TaskOutput:
        logits = self.head(self.backbone(batch.images)).float()
        loss = nn.functional.cross_entropy(logits, batch.labels)
        correct = (logits.detach().argmax(1) == batch.labels).float()
        metrics = {"accuracy": correct.mean()}
        for label, angle in enumerate(ANGLES):
            rotated = (batch.labels == label).float()
            metrics[f"accuracy_{angle}"] = (correct * rotated).sum() / rotated.sum().clamp(min=1)
        return TaskOutput(loss, metrics)
