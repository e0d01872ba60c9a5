"""Colorization: which colors had this gray image?"""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn

from pretextkit.batches import ImageToImage
from pretextkit.contracts import PretextTask, SpatialBackboneT, TaskOutput
from pretextkit.errors import ShapeError
from pretextkit.models.heads import ConvDecoder
from pretextkit.models.heads._decoder import match_size
from pretextkit.registries import register_pretext_task
from pretextkit.views._lab import lab_to_rgb, rgb_to_lab, same_lightness

__all__ = ["Colorization"]

STRONGEST = 110.0
"""No color of sRGB has an a* or b* further from 0."""


@register_pretext_task("colorization")
class Colorization(PretextTask[ImageToImage, SpatialBackboneT]):
    """Predict the colors of an image from its lightness.

    Grass is green and the sky is blue: to color a thing, a network has to know what it is (Zhang et al. 2016,
    arXiv 1603.08511). This is the regression of a* and b* in CIE Lab that the paper begins with. Where several colors
    are likely, its best answer is their mean, which is dull; the paper goes on to choose among 313 of them.

    Metrics: ``color_error``, how far the colors are from the true ones in the plane of a* and b*, and
    ``color_error_of_gray``, how far no color at all is.

    Args:
        backbone: What is trained. It sees no color in pretraining, whatever images it reads later.
        bottleneck: Channels to which the last feature map is reduced before it is decoded.

    Raises:
        OptionError: The backbone has no feature maps, or ``bottleneck`` is below 1.

    Example:
        >>> from pretextkit.models import SmallCNN
        >>> task = Colorization(SmallCNN())
        >>> batch = task.views(torch.rand(2, 3, 32, 32), torch.Generator())
        >>> batch.input.shape, batch.target.shape
        (torch.Size([2, 1, 32, 32]), torch.Size([2, 3, 32, 32]))
        >>> task.colorize(batch.input).shape
        torch.Size([2, 3, 32, 32])
    """

    def __init__(self, backbone: SpatialBackboneT, *, bottleneck: int | None = None) -> None:
        super().__init__(backbone)
        self.head = ConvDecoder.fitting(backbone, out_channels=2, bottleneck=bottleneck)

    def views(self, images: Tensor, generator: Generator) -> ImageToImage:
        """Show ``b 3 h w`` as ``b 1 h w`` of the same lightness; nothing is drawn from ``generator``.

        Raises:
            DataError: The images are no floats.
            ShapeError: The images are gray, or not ``b 3 h w``.
        """
        if images.ndim == 4 and images.shape[1] == 1:
            raise ShapeError(
                "images of 3 channels",
                got="gray images",
                fix="They have no colors to predict: pretrain on color images, or with another task.",
            )
        return ImageToImage(same_lightness(images), images)

    def colorize(self, images: Tensor) -> Tensor:
        """Give images ``b c h w``, whose own colors are not looked at, the predicted ones: ``b 3 h w`` in [0, 1].

        Raises:
            DataError: The images are no floats.
            ShapeError: The images are not ``b c h w`` with 1 or 3 channels.
        """
        images = images.expand(-1, 3, -1, -1) if images.shape[1:2] == (1,) else images
        lightness = rgb_to_lab(images)[:, :1]
        colors = STRONGEST * self._colors(same_lightness(images))
        return lab_to_rgb(torch.cat([lightness, colors.to(lightness)], 1))

    def forward(self, batch: ImageToImage) -> TaskOutput:
        with torch.no_grad():
            true = rgb_to_lab(batch.target.float())[:, 1:] / STRONGEST
        predicted = self._colors(batch.input).float()
        loss = nn.functional.mse_loss(predicted, true)
        return TaskOutput(
            loss,
            {
                "color_error": STRONGEST * torch.linalg.vector_norm(predicted.detach() - true, dim=1).mean(),
                "color_error_of_gray": STRONGEST * torch.linalg.vector_norm(true, dim=1).mean(),
            },
        )

    def _colors(self, gray: Tensor) -> Tensor:
        """Map ``b 1 h w`` to a* and b*, ``b 2 h w``, in [-1, 1] of the strongest."""
        return 2 * match_size(self.head(self.backbone.feature_map(gray)), gray) - 1
