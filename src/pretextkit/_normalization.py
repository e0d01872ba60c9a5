"""Normalization of the input of a backbone."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pretextkit._color import as_float, match_channels
from pretextkit._validation import check_channels, check_image_batch, check_image_tensor, check_int
from pretextkit.errors import ShapeError

__all__ = ["InputNormalization"]


class InputNormalization(nn.Module):
    """Convert raw images to the channels and the scale of a backbone.

    Gray images are repeated to three channels or color images reduced to luma, as the backbone needs; other numbers of
    channels are never converted. Then the mean of each channel is subtracted and the result divided by its standard
    deviation. Both are stored with the weights, because a backbone needs the same numbers downstream. Before
    :meth:`measure`, mean and std are 0.5 and 0.25.

    Args:
        channels: Input channels of the backbone, at least 1.

    Raises:
        OptionError: ``channels`` is not an integer >= 1.

    Example:
        >>> normalization = InputNormalization(channels=3)
        >>> normalization(torch.rand(2, 1, 28, 28)).shape
        torch.Size([2, 3, 28, 28])
        >>> _ = normalization.measure(torch.full((2, 3, 8, 8), 0.75))
        >>> normalization.mean
        tensor([0.7500, 0.7500, 0.7500])
    """

    mean: Tensor
    std: Tensor
    measured: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = check_int("in_channels", channels, fix="1 is gray, 3 is color, 13 are thirteen bands.")
        self.register_buffer("mean", torch.full((self.channels,), 0.5))
        self.register_buffer("std", torch.full((self.channels,), 0.25))
        self.register_buffer("measured", torch.tensor(False))

    @torch.no_grad()
    def measure(self, images: Tensor) -> InputNormalization:
        """Set mean and std to the statistics of ``images`` (``b c h w``, uint8 or float in [0, 1])."""
        check_image_tensor(images)
        if images.numel() == 0:
            raise ShapeError("at least one image", got=f"shape {tuple(images.shape)}", fix="Pass the training images.")
        sums = squares = torch.zeros((), dtype=torch.float64, device=images.device)
        for chunk in torch.split(images, 1024):  # a float64 copy of all images may not fit into memory
            pixels = self.adapt(chunk).double()
            sums = sums + pixels.sum((0, 2, 3))
            squares = squares + pixels.square().sum((0, 2, 3))
        count = images[:, 0].numel()
        mean = sums / count
        self.set(mean, (squares / count - mean.square()).clamp(min=0).sqrt())
        return self

    @torch.no_grad()
    def set(self, mean: Tensor, std: Tensor) -> None:
        """Set mean and std, each ``c``; std is at least one gray level, 1/255, because channels may be constant."""
        self.mean.copy_(mean)
        self.std.copy_(std.clamp(min=1 / 255))
        self.measured.fill_(True)

    def adapt(self, images: Tensor) -> Tensor:
        """Convert ``images`` to float in [0, 1] with ``self.channels`` channels.

        Raises:
            ShapeError: The images have another number of channels, and not 1 and 3.
        """
        check_image_batch(images)
        check_channels(images, self.channels)
        return match_channels(as_float(images, self.mean.dtype), self.channels)

    def forward(self, images: Tensor) -> Tensor:
        """Map ``b c h w`` in [0, 1] to normalized ``b c h w`` with ``self.channels`` channels."""
        return (self.adapt(images) - self.mean.view(1, -1, 1, 1)) / self.std.view(1, -1, 1, 1)

    def extra_repr(self) -> str:
        mean, std = ([round(v, 4) for v in t.tolist()] for t in (self.mean, self.std))
        return f"channels={self.channels}, mean={mean}, std={std}"
