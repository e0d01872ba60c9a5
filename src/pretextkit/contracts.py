"""The contract: abstract classes of backbones, heads and pretext tasks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NamedTuple, final

import torch
from torch import Generator, Tensor, nn
from typing_extensions import TypeVar

from pretextkit._arguments import RecordsArguments
from pretextkit._color import as_float, match_channels
from pretextkit._modules import is_parallel_wrapper
from pretextkit._validation import check_channels, check_float, check_image_batch, check_image_tensor, check_int
from pretextkit.errors import OptionError, ShapeError

__all__ = [
    "Backbone",
    "Head",
    "InputNormalization",
    "PretextTask",
    "Recommended",
    "SpatialBackbone",
    "TaskOutput",
    "TokenBackbone",
]


class TaskOutput(NamedTuple):
    """Loss and metrics of one forward pass of a pretext task."""

    loss: Tensor
    """Scalar ``()``, with gradient."""
    metrics: Mapping[str, Tensor]
    """Scalars ``()`` by name, detached."""


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


class Backbone(RecordsArguments, nn.Module, ABC):
    """Network from images ``b c h w`` in [0, 1] to features ``b d``: the product of pretraining.

    A subclass sets ``feature_dim`` and calls :attr:`normalization` on its input.

    Args:
        in_channels: Input channels. A backbone of 1 or 3 channels also takes images with the other of these numbers.
    """

    feature_dim: int
    smallest_image: int = 1
    """Smallest side in pixels of images that the network takes."""
    starts_from: str = "random weights"
    """Origin of the weights before pretraining; results print it if the weights were trained with labels."""
    built_by: tuple[str, Mapping[str, Any]] | None = None
    """Registered name and options that build the network of a library again; None for other backbones."""

    def __init__(self, *, in_channels: int = 3) -> None:
        super().__init__()
        self.normalization = InputNormalization(in_channels)

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """Map ``b c h w`` to ``b d``."""

    if TYPE_CHECKING:  # torch types every call as Any

        def __call__(self, images: Tensor) -> Tensor: ...


class SpatialBackbone(Backbone):
    """Backbone with feature maps; the features are the global average of the last map."""

    @abstractmethod
    def stages(self, images: Tensor) -> tuple[Tensor, ...]:
        """Map ``b c h w`` to one map ``b d' h' w'`` per stage, first to last."""

    def feature_map(self, images: Tensor) -> Tensor:
        """Map ``b c h w`` to the last stage's map ``b d h' w'``."""
        return self.stages(images)[-1]

    def forward(self, images: Tensor) -> Tensor:
        return self.feature_map(images).mean((2, 3))


class TokenBackbone(SpatialBackbone):
    """Backbone that computes on tokens, one for each patch of an image: a task may show it some of them only.

    ``tokens`` embeds the patches with their positions, ``encode`` runs the network on any subset of them. A masked
    autoencoder drops tokens in between::

        tokens = backbone.tokens(images)  # b n d
        seen = backbone.encode(tokens[:, ::4])  # b n/4 d: the masked ones cost nothing

    The maps of the stages are the tokens of all patches. A subclass sets ``feature_dim``, which is also the width of
    the tokens, and ``patch``.
    """

    patch: int
    """Side of a patch in pixels."""

    @abstractmethod
    def tokens(self, images: Tensor) -> Tensor:
        """Map ``b c h w`` to embedded patches with their positions, ``b n d``, row by row.

        Images are padded at the bottom and on the right to a multiple of the patch; ``n`` is the product of
        :meth:`grid`.
        """

    @abstractmethod
    def encode_stages(self, tokens: Tensor) -> tuple[Tensor, ...]:
        """Map any subset of an image's tokens, ``b k d``, to encoded tokens ``b k d``, one per stage."""

    def encode(self, tokens: Tensor) -> Tensor:
        """Map any subset of an image's tokens, ``b k d``, to the encoded tokens ``b k d`` of the last stage."""
        return self.encode_stages(tokens)[-1]

    def grid(self, images: Tensor) -> tuple[int, int]:
        """Return the number of rows and columns of patches in images ``b c h w``."""
        height, width = images.shape[2:]
        return -(-height // self.patch), -(-width // self.patch)

    def stages(self, images: Tensor) -> tuple[Tensor, ...]:
        check_image_batch(images)
        grid = self.grid(images)
        encoded = self.encode_stages(self.tokens(images))
        return tuple(tokens.transpose(1, 2).reshape(len(tokens), -1, *grid) for tokens in encoded)


class Head(RecordsArguments, nn.Module, ABC):
    """Network from features ``b d`` (or maps ``b d h' w'``, for a decoder) to the input of a loss."""

    @abstractmethod
    def forward(self, features: Tensor) -> Tensor:
        """Map ``b d`` to ``b k``, or ``b d h' w'`` to ``b c h w``."""

    if TYPE_CHECKING:

        def __call__(self, features: Tensor) -> Tensor: ...


BatchT = TypeVar("BatchT", bound=tuple[Any, ...])
# Covariant: a task of a SmallCNN is also a task of a Backbone, because forward only reads ``backbone``.
BackboneT = TypeVar("BackboneT", bound=Backbone, default=Backbone, covariant=True)
SpatialBackboneT = TypeVar("SpatialBackboneT", bound=SpatialBackbone, default=SpatialBackbone, covariant=True)
TokenBackboneT = TypeVar("TokenBackboneT", bound=TokenBackbone, default=TokenBackbone, covariant=True)


def check_backbone(backbone: Any) -> None:
    """Check that a module can be the backbone of a task: it has a ``feature_dim``.

    Raises:
        OptionError: It has none, or is no network.

    Example:
        >>> check_backbone(nn.Flatten())
        Traceback (most recent call last):
            ...
        pretextkit.errors.OptionError: Expected a pretextkit.Backbone, but got a Flatten without feature_dim. Make ...
    """
    name = type(backbone).__name__
    if isinstance(backbone, type):
        call = f"pretextkit.backbones[{backbone.__name__!r}]" if "/" in backbone.__name__ else backbone.__name__
        got, fix = f"the class {backbone.__name__}", f"Build it: {call}()."
    elif isinstance(backbone, str):
        got, fix = f"the name {backbone!r}", f"Build it: pretextkit.backbones[{backbone!r}]()."
    elif isinstance(backbone, PretextTask):
        got, fix = f"the task {name}", "Pass its backbone, task.backbone."
    elif is_parallel_wrapper(backbone):
        got = f"a {name}"
        fix = "Pass the network inside, model.module: pretrain itself trains on several GPUs, under torchrun."
    elif not isinstance(backbone, nn.Module):
        got, fix = f"a {name}", _SUBCLASS
    elif not isinstance(dim := getattr(backbone, "feature_dim", ...), int) or dim < 1:
        got = f"a {name} {'without feature_dim' if dim is ... else f'with feature_dim={dim!r}'}"
        fix = "Set feature_dim to the number of features, an integer." if isinstance(backbone, Backbone) else _WRAP
    else:
        return
    named = isinstance(backbone, str | type)
    see = "a-name-or-a-class-instead-of-an-object" if named else "a-network-as-backbone"
    raise OptionError("a pretextkit.Backbone", got=got, fix=fix, see=see)


_WRAP = "Make it a backbone in one line: pretextkit.models.wrap(module)."
_SUBCLASS = (
    "Pass a network: pretextkit.models.wrap(module) makes a backbone of any network of torchvision, timm or your own, "
    "and pretextkit.backbones['torchvision/resnet50']() builds one by name."
)
"""How to get a backbone."""


BATCHES_AN_EPOCH = 128
"""Steps of an epoch, at least, before the batch grows."""

FEWEST_EPOCHS, MOST_EPOCHS = 10, 400
"""Bounds on the passes over the images, whatever their number."""


@dataclass(frozen=True)
class Recommended:
    """Settings that suit a pretext task: what :func:`~pretextkit.functional.pretrain` uses if its caller gives none.

    The number of images turns them into the batch size and the epochs of a run.

    Args:
        learning_rate: Highest learning rate of AdamW. The other optimizers have a rate of their own, for every task.
        smallest_batch: Smallest batch size, in images; fewer images make one batch.
        largest_batch: Largest batch size, in images.
        images_to_read: Images that a run reads, all epochs together.

    Raises:
        OptionError: A number is out of range, or ``smallest_batch`` is above ``largest_batch``.

    Example:
        >>> settings = Recommended(images_to_read=160_000)
        >>> settings.batch_size_for(8_000), settings.epochs_for(8_000)
        (32, 20)
        >>> settings.batch_size_for(20), settings.epochs_for(20)
        (20, 400)
    """

    learning_rate: float = 1e-3
    smallest_batch: int = 32
    largest_batch: int = 256
    images_to_read: int = 200_000

    def __post_init__(self) -> None:
        fix = "It is at least smallest_batch."
        smallest = check_int("smallest_batch", self.smallest_batch, of=Recommended)
        checked = {
            "learning_rate": check_float("learning_rate", self.learning_rate, "(0, inf)", of=Recommended),
            "smallest_batch": smallest,
            "largest_batch": check_int("largest_batch", self.largest_batch, at_least=smallest, fix=fix),
            "images_to_read": check_int("images_to_read", self.images_to_read, of=Recommended),
        }
        for name, value in checked.items():  # numbers of Python, because checkpoints hold no others
            object.__setattr__(self, name, value)

    def batch_size_for(self, images: int) -> int:
        """Choose the batch size for a number of images: a power of two that leaves 128 steps an epoch, within bounds.

        Few steps an epoch train worse than small batches, and large batches are faster: only many images afford them.
        """
        images = check_int("images", images, fix="Pass the number of images.")
        batch = 1 << (max(1, images // BATCHES_AN_EPOCH).bit_length() - 1)
        return min(max(batch, self.smallest_batch), self.largest_batch, images)

    def epochs_for(self, images: int) -> int:
        """Choose the epochs for a number of images: those that read ``images_to_read``, but from 10 to 400."""
        images = check_int("images", images, fix="Pass the number of images.")
        return min(max(round(self.images_to_read / images), FEWEST_EPOCHS), MOST_EPOCHS)


class PretextTask(nn.Module, ABC, Generic[BatchT, BackboneT]):
    """Self-supervised task: makes views of images and computes a loss of a backbone on the views.

    A class states the settings that suit it as ``recommended``; without it, the general ones hold.

    Args:
        backbone: Network to train; after training, use it without the task. Any other module with a ``feature_dim``
            that maps images to features also works, and so does the result of ``torch.compile``.

    Raises:
        OptionError: The backbone is no such module.
    """

    recommended: ClassVar[Recommended] = Recommended()
    """Settings for a caller of :func:`~pretextkit.functional.pretrain` who gives none."""

    label_names: ClassVar[tuple[str, ...]] = ()
    """Names of the labels of the views, which figures show; empty for a task without labels or names."""

    backbone: BackboneT

    def __init__(self, backbone: BackboneT) -> None:
        super().__init__()
        check_backbone(backbone)
        self.backbone = backbone

    @abstractmethod
    def views(self, images: Tensor, generator: Generator) -> BatchT:
        """Make a batch from ``images`` (``b c h w``, float in [0, 1]).

        Every image gets its own draw from ``generator``, the only source of random numbers. The method reads no
        parameter and does not change ``images``.
        """

    @abstractmethod
    def forward(self, batch: BatchT) -> TaskOutput:
        """Compute loss and metrics of a batch: backbone, head, loss."""

    if TYPE_CHECKING:

        def __call__(self, batch: BatchT) -> TaskOutput: ...

    def after_step(self) -> None:
        """Update state that follows the weights, such as a momentum copy, after each optimizer step."""

    @property
    def chance_accuracy(self) -> float | None:
        """Metric ``accuracy`` of random guesses, which plots of a training mark; None for a task without accuracy."""
        return None

    @final
    def step(self, images: Tensor, generator: Generator) -> TaskOutput:
        """Make views of ``images``, without gradient and in float32 even under autocast, and compute their loss.

        Args:
            images: ``b c h w``, uint8 or float in [0, 1].
            generator: Source of all random numbers in the views.

        Raises:
            ShapeError: The images have another rank.
            DataError: The images are neither uint8 nor floating-point.
        """
        check_image_batch(images)
        with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
            batch = self.views(as_float(images), generator)
        output: TaskOutput = self(batch)
        return output
