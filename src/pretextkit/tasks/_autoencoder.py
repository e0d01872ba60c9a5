"""Autoencoder: reconstruct the pixels of an image."""

from __future__ import annotations

from torch import Generator, Tensor, nn

from pretextkit.batches import ImageToImage
from pretextkit.contracts import PretextTask, SpatialBackboneT, TaskOutput
from pretextkit.losses import psnr
from pretextkit.models.heads import ConvDecoder
from pretextkit.models.heads._decoder import match_images
from pretextkit.registries import register_pretext_task
from pretextkit.views._augmentation import Augmentation, LightAugmentation, augmented, check_augmentation

__all__ = ["Autoencoder"]


@register_pretext_task("autoencoder")
class Autoencoder(PretextTask[ImageToImage, SpatialBackboneT]):
    """Reconstruct an image from its last feature map.

    A narrow code keeps the information that reconstructs an image best (Hinton & Salakhutdinov 2006,
    doi 10.1126/science.1127647). The autoencoder is the baseline for tasks that hide pixels, and a model of normal
    images for anomaly scores. All pixels have equal weight, so mean colors of regions dominate the error, and features
    improve less than with other tasks.

    Not suited to photographs, most of whose pixels need no knowledge of objects: methods of two views learn more.

    Metrics: ``mse`` and ``psnr``, in decibels.

    Args:
        backbone: Backbone to train.
        bottleneck: Number of channels to which the last feature map is reduced before decoding; None keeps all.
        augmentation: Augmentation of each image; the augmented image is input and target. None leaves the images as
            they are. The default mirrors no image.

    Raises:
        OptionError: The backbone has no feature maps, ``bottleneck`` is below 1, or ``augmentation`` is no function.

    Example:
        >>> import torch
        >>> from pretextkit.models import SmallCNN
        >>> task = Autoencoder(SmallCNN())
        >>> task.reconstruct(torch.rand(2, 1, 28, 28)).shape
        torch.Size([2, 1, 28, 28])
    """

    def __init__(
        self,
        backbone: SpatialBackboneT,
        *,
        bottleneck: int | None = None,
        augmentation: Augmentation | None = LightAugmentation(),  # noqa: B008 - a tuple, which cannot change
    ) -> None:
        super().__init__(backbone)
        self.augmentation = check_augmentation(augmentation)
        self.head = ConvDecoder.fitting(backbone, bottleneck=bottleneck)

    def views(self, images: Tensor, generator: Generator) -> ImageToImage:
        """Augment images ``b c h w``, and return them as input and target."""
        images = augmented(self.augmentation, images, generator)
        return ImageToImage(images, images)

    def reconstruct(self, images: Tensor) -> Tensor:
        """Reconstruct images ``b c h w``, in [0, 1]."""
        return match_images(self.head(self.backbone.feature_map(images)), images)

    def forward(self, batch: ImageToImage) -> TaskOutput:
        loss = nn.functional.mse_loss(self.reconstruct(batch.input).float(), batch.target.float())
        return TaskOutput(loss, {"mse": loss.detach(), "psnr": psnr(loss)})
