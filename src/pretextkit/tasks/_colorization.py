"""Colorization: predict the colors of a gray image."""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn

from pretextkit.batches import ImageToImage
from pretextkit.contracts import PretextTask, SpatialBackboneT, TaskOutput
from pretextkit.errors import OptionError, ShapeError
from pretextkit.models.heads import ConvDecoder
from pretextkit.models.heads._decoder import match_size
from pretextkit.registries import register_pretext_task
from pretextkit.views._augmentation import Augmentation, LightAugmentation, augmented, check_augmentation
from pretextkit.views._lab import lab_to_rgb, rgb_to_lab, same_lightness

__all__ = ["Colorization"]

CROPS = LightAugmentation(jitter=0.0)
"""Changed colors would teach the network false ones."""

LARGEST_CHROMA = 110.0
"""Upper bound on the absolute value of a* and b* in sRGB."""


@register_pretext_task("colorization")
class Colorization(PretextTask[ImageToImage, SpatialBackboneT]):
    """Predict the colors of an image from its lightness.

    Grass is green and the sky is blue: to color an object, a network has to recognize it (Zhang et al. 2016,
    arXiv 1603.08511). The loss is the paper's baseline, the regression of a* and b* in CIE Lab. If several colors are
    likely, the optimal prediction is their mean, which looks dull; the paper's final model classifies 313 color bins.

    Not suited to gray images, nor to things of any color.

    Metrics: ``color_error``, the mean distance of predicted and true colors in the plane of a* and b*, and
    ``color_error_of_gray``, the same distance for a gray prediction.

    Args:
        backbone: Backbone to train. It sees gray images only in pretraining.
        bottleneck: Number of channels to which the last feature map is reduced before decoding; None keeps all.
        augmentation: Augmentation of each image; the augmented image is the target, so the default crops it and leaves
            its colors alone. None leaves the images as they are. The default mirrors no image.

    Raises:
        OptionError: The backbone has no feature maps, or takes neither gray nor color images; ``bottleneck`` is below
            1, or ``augmentation`` is no function.

    Example:
        >>> from pretextkit.models import SmallCNN
        >>> task = Colorization(SmallCNN())
        >>> batch = task.views(torch.rand(2, 3, 32, 32), torch.Generator())
        >>> batch.input.shape, batch.target.shape
        (torch.Size([2, 1, 32, 32]), torch.Size([2, 3, 32, 32]))
        >>> task.colorize(batch.input).shape
        torch.Size([2, 3, 32, 32])
    """

    def __init__(
        self,
        backbone: SpatialBackboneT,
        *,
        bottleneck: int | None = None,
        augmentation: Augmentation | None = CROPS,
    ) -> None:
        super().__init__(backbone)
        self.augmentation = check_augmentation(augmentation)
        self.head = ConvDecoder.fitting(backbone, out_channels=2, bottleneck=bottleneck)
        if (channels := backbone.normalization.channels) not in (1, 3):
            raise OptionError(
                "a backbone of 1 or 3 channels, because colorization predicts colors from gray images",
                got=f"one of {channels}",
                fix="Build it with in_channels=3, or choose another task for images without colors.",
            )

    def views(self, images: Tensor, generator: Generator) -> ImageToImage:
        """Augment images ``b 3 h w``, and convert them to gray ``b 1 h w`` of equal lightness.

        Raises:
            DataError: The images are not of a floating-point dtype.
            ShapeError: The images are not ``b 3 h w``.
        """
        if images.ndim == 4 and (channels := images.shape[1]) != 3:
            kind = "Gray images" if channels == 1 else f"Images of {channels} channels"
            raise ShapeError(
                "images of 3 channels",
                got="gray images" if channels == 1 else f"{channels} channels",
                fix=f"{kind} have no colors to predict: pretrain on color images, or with another task.",
            )
        images = augmented(self.augmentation, images, generator)
        return ImageToImage(same_lightness(images), images)

    def colorize(self, images: Tensor) -> Tensor:
        """Predict colors from the lightness of images ``b c h w``: ``b 3 h w`` in [0, 1].

        Raises:
            DataError: The images are not of a floating-point dtype.
            ShapeError: The images are not ``b c h w`` with 1 or 3 channels.
        """
        images = images.expand(-1, 3, -1, -1) if images.shape[1:2] == (1,) else images
        lightness = rgb_to_lab(images)[:, :1]
        colors = LARGEST_CHROMA * self._colors(same_lightness(images))
        return lab_to_rgb(torch.cat([lightness, colors.to(lightness)], 1))

    def forward(self, batch: ImageToImage) -> TaskOutput:
        with torch.no_grad():
            true = rgb_to_lab(batch.target.float())[:, 1:] / LARGEST_CHROMA
        predicted = self._colors(batch.input).float()
        loss = nn.functional.mse_loss(predicted, true)
        return TaskOutput(
            loss,
            {
                "color_error": LARGEST_CHROMA * torch.linalg.vector_norm(predicted.detach() - true, dim=1).mean(),
                "color_error_of_gray": LARGEST_CHROMA * torch.linalg.vector_norm(true, dim=1).mean(),
            },
        )

    def _colors(self, gray: Tensor) -> Tensor:
        """Predict a* and b* from gray images ``b 1 h w``: ``b 2 h w``, in units of ``LARGEST_CHROMA``."""
        return 2 * match_size(self.head(self.backbone.feature_map(gray)), gray) - 1
