"""The contract: what a backbone, a head and a pretext task are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, final

import torch
from torch import Generator, Tensor, nn
from typing_extensions import TypeVar

from pretextkit._color import as_float, luma
from pretextkit._validation import check_image_batch, check_int
from pretextkit.errors import ShapeError

__all__ = [
    "Backbone",
    "Head",
    "InputNormalization",
    "PretextTask",
    "SpatialBackbone",
    "TaskOutput",
]


class TaskOutput(NamedTuple):
    """What one forward pass of a pretext task gives."""

    loss: Tensor
    """``()``, with gradient."""
    metrics: Mapping[str, Tensor]
    """Each ``()``, detached."""


class InputNormalization(nn.Module):
    """Bring raw images to the channels and the scale a backbone was trained on.

    Gray images are repeated to three channels and color images reduced to luma, as the backbone needs;
    then the mean is taken off and the result divided by the standard deviation, both stored with the weights,
    so that no downstream use can mismatch them. Until :meth:`measure` is called, mean and std are 0.5 and 0.25.

    Args:
        channels: 1 or 3, what the backbone takes.

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
        fix = "Choose in_channels=1 (gray) or 3 (color)."
        self.channels = check_int("in_channels", channels, at_least=None, fix=fix)
        if self.channels not in (1, 3):
            raise ShapeError("1 or 3 input channels", got=channels, fix=fix)
        self.register_buffer("mean", torch.full((self.channels,), 0.5))
        self.register_buffer("std", torch.full((self.channels,), 0.25))
        self.register_buffer("measured", torch.tensor(False))

    @torch.no_grad()
    def measure(self, images: Tensor) -> InputNormalization:
        """Set mean and std to those of ``images`` (``b c h w``, uint8 or float in [0, 1])."""
        if images.numel() == 0:
            raise ShapeError("at least one image", got=f"shape {tuple(images.shape)}", fix="Pass images to measure.")
        sums = squares = torch.zeros((), dtype=torch.float64, device=images.device)
        for chunk in torch.split(images, 1024):  # a copy of all images as float64 could be more than the memory holds
            pixels = self.adapt(chunk).double()
            sums = sums + pixels.sum((0, 2, 3))
            squares = squares + pixels.square().sum((0, 2, 3))
        count = images[:, 0].numel()
        mean = sums / count
        self.set(mean, (squares / count - mean.square()).clamp(min=0).sqrt())
        return self

    @torch.no_grad()
    def set(self, mean: Tensor, std: Tensor) -> None:
        """Set mean and std, each ``c``; a constant channel gets the standard deviation of one gray level."""
        self.mean.copy_(mean)
        self.std.copy_(std.clamp(min=1 / 255))
        self.measured.fill_(True)

    def adapt(self, images: Tensor) -> Tensor:
        """Make ``images`` float in [0, 1] with this backbone's number of channels."""
        check_image_batch(images)
        images = as_float(images, self.mean.dtype)
        if images.shape[1] == self.channels:
            return images
        if self.channels == 3:
            return images.expand(-1, 3, -1, -1)
        return luma(images)

    def forward(self, images: Tensor) -> Tensor:
        """Map ``b c h w`` in [0, 1], 1 or 3 channels, to normalized ``b c h w`` with ``self.channels`` channels."""
        return (self.adapt(images) - self.mean.view(1, -1, 1, 1)) / self.std.view(1, -1, 1, 1)

    def extra_repr(self) -> str:
        mean, std = ([round(v, 4) for v in t.tolist()] for t in (self.mean, self.std))
        return f"channels={self.channels}, mean={mean}, std={std}"


class Backbone(nn.Module, ABC):
    """Images ``b c h w`` in [0, 1] to features ``b d``: the product of pretraining.

    A subclass sets ``feature_dim`` and calls :attr:`normalization` on its input.

    Args:
        in_channels: 1 or 3; images of the other kind are adapted.
    """

    feature_dim: int

    def __init__(self, *, in_channels: int = 3) -> None:
        super().__init__()
        self.normalization = InputNormalization(in_channels)

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """Map ``b c h w`` to ``b d``."""

    if TYPE_CHECKING:  # torch types every call as Any

        def __call__(self, images: Tensor) -> Tensor: ...


class SpatialBackbone(Backbone):
    """A backbone with feature maps; its features are the global average of the last one."""

    @abstractmethod
    def stages(self, images: Tensor) -> tuple[Tensor, ...]:
        """Map ``b c h w`` to the map ``b d' h' w'`` after every stage, first to last."""

    def feature_map(self, images: Tensor) -> Tensor:
        """Map ``b c h w`` to the last stage's map ``b d h' w'``."""
        return self.stages(images)[-1]

    def forward(self, images: Tensor) -> Tensor:
        return self.feature_map(images).mean((2, 3))


class Head(nn.Module, ABC):
    """Features ``b d`` (or maps ``b d h' w'``, for a decoder) to what a loss needs."""

    @abstractmethod
    def forward(self, features: Tensor) -> Tensor:
        """Map ``b d`` to ``b k``, or ``b d h' w'`` to ``b c h w``."""

    if TYPE_CHECKING:

        def __call__(self, features: Tensor) -> Tensor: ...


BatchT = TypeVar("BatchT", bound=tuple[Any, ...])
BackboneT = TypeVar("BackboneT", bound=Backbone, default=Backbone)


class PretextTask(nn.Module, ABC, Generic[BatchT, BackboneT]):
    """A task that images pose by themselves: make views of them, and score a backbone on the views.

    Args:
        backbone: What is trained; after training, use it without the task.
    """

    backbone: BackboneT

    def __init__(self, backbone: BackboneT) -> None:
        super().__init__()
        self.backbone = backbone

    @abstractmethod
    def views(self, images: Tensor, generator: Generator) -> BatchT:
        """Make a batch from ``images`` (``b c h w``, float in [0, 1]).

        Every image gets its own draw from ``generator`` and nothing else is random; no parameter is read and
        ``images`` is left as it was.
        """

    @abstractmethod
    def forward(self, batch: BatchT) -> TaskOutput:
        """Score a batch: backbone, head, loss."""

    if TYPE_CHECKING:

        def __call__(self, batch: BatchT) -> TaskOutput: ...

    def after_step(self) -> None:
        """Move what follows the weights (a momentum copy, a queue) once the optimizer has stepped."""

    @final
    def step(self, images: Tensor, generator: Generator) -> TaskOutput:
        """Make views of ``images`` (without gradient, in float32 whatever the autocast) and score them.

        Args:
            images: ``b c h w`` with 1 or 3 channels, uint8 or float in [0, 1].
            generator: Source of all that is random in the views.

        Raises:
            ShapeError: The images have another rank or number of channels.
        """
        check_image_batch(images)
        with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
            batch = self.views(as_float(images), generator)
        output: TaskOutput = self(batch)
        return output
