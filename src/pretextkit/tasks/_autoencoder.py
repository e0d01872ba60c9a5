"""Reconstruction: what is in this image?, answered in pixels."""

from __future__ import annotations

from torch import Generator, Tensor, nn

from pretextkit.batches import ImageToImage
from pretextkit.contracts import PretextTask, SpatialBackboneT, TaskOutput
from pretextkit.losses import psnr
from pretextkit.models.heads import ConvDecoder
from pretextkit.models.heads._decoder import match_images
from pretextkit.registries import register_pretext_task

__all__ = ["Autoencoder"]


@register_pretext_task("autoencoder")
class Autoencoder(PretextTask[ImageToImage, SpatialBackboneT]):
    """Reconstruct an image from its last feature map.

    What a narrow code keeps of an image is what most helps to draw it again (Hinton & Salakhutdinov 2006,
    doi 10.1126/science.1127647): the baseline of all tasks that hide something, and a model of what is normal. Pixels
    weigh all alike, so that mean colors of areas are most of the error, and features gain less than by other tasks.

    Metrics: ``mse`` and ``psnr``, in decibels.

    Args:
        backbone: What is trained.
        bottleneck: Channels to which the last feature map is reduced before it is decoded.

    Raises:
        OptionError: The backbone has no feature maps, or ``bottleneck`` is below 1.

    Example:
        >>> import torch
        >>> from pretextkit.models import SmallCNN
        >>> task = Autoencoder(SmallCNN())
        >>> task.reconstruct(torch.rand(2, 1, 28, 28)).shape
        torch.Size([2, 1, 28, 28])
    """

    def __init__(self, backbone: SpatialBackboneT, *, bottleneck: int | None = None) -> None:
        super().__init__(backbone)
        self.head = ConvDecoder.fitting(backbone, bottleneck=bottleneck)

    def views(self, images: Tensor, generator: Generator) -> ImageToImage:
        """Show ``b c h w`` as they are; nothing is drawn from ``generator``."""
        return ImageToImage(images, images)

    def reconstruct(self, images: Tensor) -> Tensor:
        """Map ``b c h w`` to what the decoder makes of them, of the same shape, in [0, 1]."""
        return match_images(self.head(self.backbone.feature_map(images)), images)

    def forward(self, batch: ImageToImage) -> TaskOutput:
        loss = nn.functional.mse_loss(self.reconstruct(batch.input).float(), batch.target.float())
        return TaskOutput(loss, {"mse": loss.detach(), "psnr": psnr(loss)})
