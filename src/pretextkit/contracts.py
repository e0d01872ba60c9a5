"""The contract: abstract classes of backbones, heads and pretext tasks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NamedTuple, final

import torch
from torch import Generator, Tensor, nn
from typing_extensions import TypeVar

from pretextkit._arguments import RecordsArguments
from pretextkit._color import as_float
from pretextkit._modules import is_parallel_wrapper
from pretextkit._normalization import InputNormalization
from pretextkit._recommended import Recommended
from pretextkit._validation import check_image_batch
from pretextkit.errors import OptionError

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
