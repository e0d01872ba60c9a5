"""Inpainting: what is in the hole?"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Generator, Tensor, nn

from pretextkit._validation import check_float, check_int
from pretextkit.batches import Masked
from pretextkit.contracts import Head, PretextTask, SpatialBackbone, TaskOutput
from pretextkit.errors import OptionError
from pretextkit.losses import discriminator_loss, generator_loss, psnr, weighted_mse
from pretextkit.models.heads import ConvDecoder
from pretextkit.models.heads._decoder import match_images
from pretextkit.registries import register_pretext_task
from pretextkit.views import hide_pixels, mask_blocks, mask_center

__all__ = ["CenterBlock", "ContextEncoder", "HoleShape", "RandomBlocks"]


class HoleShape(Protocol):
    """A way to choose the hidden pixels ``b 1 h w`` of images ``b c h w``, each by its own draw."""

    def __call__(self, images: Tensor, generator: Generator) -> Tensor: ...


class CenterBlock(NamedTuple):
    """The block in the middle; ``side`` is its share of the image's height and width."""

    side: float = 0.5

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        """Mark the middle of ``b c h w``; nothing is drawn from ``generator``."""
        return mask_center(images, self.side)


class RandomBlocks(NamedTuple):
    """Blocks anywhere, which may overlap: four of a quarter's side hide up to a quarter of the image."""

    blocks: int = 4
    side: float = 0.25

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        """Mark blocks of ``b c h w``, other ones in each image."""
        return mask_blocks(images, count=self.blocks, side=self.side, generator=generator)


@register_pretext_task("context-encoder")
class ContextEncoder(PretextTask[Masked, SpatialBackbone]):
    """Fill a hole in an image from what is around it.

    Whoever draws the missing half of a face has seen that it is one (Pathak et al. 2016, arXiv 1604.07379). Only the
    is filled in keeping with its surroundings. Blocks lie anywhere by default: on a hole that is always in the middle,
    features latch onto its edges (section 3.3 of the paper).

    With a ``discriminator``, the hole is also to look true: the discriminator learns to tell what was in the hole from what was put
    there, and the decoder to pass for true. As in the paper, the discriminator sees the hole alone, since around it the seams
    would give the answer away. Deviating from it, one optimizer moves both, and the fill is rewarded for passing rather
    than punished for failing, which keeps its gradient alive where the discriminator is sure. The loss then falls only as far
    as neither side wins; ``mse_hidden`` tells how well the hole is filled.

    Metrics: ``mse_hidden`` and ``psnr_hidden`` (in decibels) of the hole, ``mse_border`` of the border, and
    ``psnr_mean``, which the mean color of the visible pixels would have in the hole; with a discriminator also ``discriminator``,
    its loss, which is 1.39 while it cannot tell, and ``generator_term``, that of the fill.

    Args:
        backbone: What is trained.
        hole: :class:`RandomBlocks`, :class:`CenterBlock`, or a function of your own like them.
        overlap: Width of the border, in pixels.
        border_weight: Weight of a pixel of the border; one of the hole has 1.
        discriminator: Maps images ``b 3 h w``, gray but for the hole, to logits, above 0 where they look true, such as
            :class:`~pretextkit.models.PatchDiscriminator`. None leaves the adversarial term out.
        adversarial_weight: How much passing for true counts beside the error, which has 1.

    Raises:
        OptionError: The backbone has no feature maps, the discriminator is no head, or a number is negative.

    Example:
        >>> from pretextkit.models import SmallCNN
        >>> task = ContextEncoder(SmallCNN(), hole=CenterBlock(side=0.5))
        >>> batch = task.views(torch.rand(2, 3, 32, 32), torch.Generator())
        >>> batch.mask.sum((1, 2, 3))
        tensor([256, 256])
        >>> task.fill(batch.visible, batch.mask).shape
        torch.Size([2, 3, 32, 32])
    """

    def __init__(
        self,
        backbone: SpatialBackbone,
        *,
        hole: HoleShape = RandomBlocks(),  # noqa: B008 - a tuple, which cannot change
        overlap: int = 2,
        border_weight: float = 10.0,
        discriminator: Head | None = None,
        adversarial_weight: float = 0.001,
    ) -> None:
        super().__init__(backbone)
        self.hole = hole
        self.overlap = check_int("overlap", overlap, at_least=0, fix="0 leaves the border out.", of=ContextEncoder)
        self.border_weight = check_float("border_weight", border_weight, "[0, inf)", of=ContextEncoder)
        self.adversarial_weight = check_float("adversarial_weight", adversarial_weight, "[0, inf)", of=ContextEncoder)
        if not isinstance(discriminator, Head | None):
            raise OptionError(
                "discriminator as a Head or None",
                got=type(discriminator).__name__,
                fix="Pass pretextkit.models.PatchDiscriminator(), or a Head of your own.",
            )
        self.head = ConvDecoder.fitting(backbone)
        self.discriminator = discriminator

    def views(self, images: Tensor, generator: Generator) -> Masked:
        """Fill a hole in each of ``b c h w`` with the mean color of its other pixels.

        Raises:
            OptionError: A number of the hole's shape is out of range.
            ShapeError: The images are too small for it.
        """
        mask = self.hole(images, generator)
        return Masked(hide_pixels(images, mask), mask, images)

    def reconstruct(self, images: Tensor) -> Tensor:
        """Map ``b c h w`` to what the decoder makes of them everywhere, of the same shape, in [0, 1]."""
        return match_images(self.head(self.backbone.feature_map(images)), images)

    def fill(self, visible: Tensor, mask: Tensor) -> Tensor:
        """Fill the hole ``mask`` (``b 1 h w``, bool) in ``b c h w`` and leave the rest as it is."""
        return torch.where(mask, self.reconstruct(visible).to(visible.dtype), visible)

    def forward(self, batch: Masked) -> TaskOutput:
        border = border_of(batch.mask, self.overlap)
        prediction = self.reconstruct(batch.visible)
        loss = weighted_mse(prediction, batch.target, batch.mask + self.border_weight * border)
        found = prediction.detach()
        mse_hidden = weighted_mse(found, batch.target, batch.mask)
        metrics = {
            "mse_hidden": mse_hidden,
            "mse_border": weighted_mse(found, batch.target, border),
            "psnr_hidden": psnr(mse_hidden),
            "psnr_mean": psnr(weighted_mse(batch.visible, batch.target, batch.mask)),
        }
        if self.discriminator is None:
            return TaskOutput(loss, metrics)
        true, made = (only_hole(images, batch.mask) for images in (batch.target, prediction))
        discriminator_term = discriminator_loss(self.discriminator(true), self.discriminator(made.detach()))
        generator_term = generator_loss(frozen_forward(self.discriminator, made))
        metrics |= {"discriminator": discriminator_term.detach(), "generator": generator_term.detach()}
        return TaskOutput(loss + discriminator_term + self.adversarial_weight * generator_term, metrics)


def border_of(mask: Tensor, width: int) -> Tensor:
    """Mark the pixels ``b 1 h w`` that are not in ``mask`` and at most ``width`` rows and columns from it.

    Example:
        >>> border_of(torch.tensor([[[[False, False, True, True, False]]]]), 1).int()
        tensor([[[[0, 1, 0, 0, 1]]]], dtype=torch.int32)
    """
    grown = nn.functional.max_pool2d(mask.float(), 2 * width + 1, stride=1, padding=width) > 0
    return grown & ~mask


def only_hole(images: Tensor, mask: Tensor) -> Tensor:
    """Give ``b 3 h w`` that are gray but for the hole ``mask`` (``b 1 h w``, bool) of ``b c h w``.

    Example:
        >>> only_hole(torch.ones(1, 1, 1, 2), torch.tensor([[[[True, False]]]]))[0, :, 0]
        tensor([[1.0000, 0.5000],
                [1.0000, 0.5000],
                [1.0000, 0.5000]])
    """
    return torch.where(mask, images, 0.5).expand(-1, 3, -1, -1)


def frozen_forward(discriminator: nn.Module, images: Tensor) -> Tensor:
    """Give a discriminator's logits whose gradient reaches the images, and not the discriminator.

    Raises:
        OptionError: ``fully_shard`` has divided the discriminator by itself: its weights would come back with their gradient.

    Example:
        >>> discriminator, images = nn.Linear(2, 1), torch.ones(1, 2, requires_grad=True)
        >>> frozen_forward(discriminator, images).backward()
        >>> discriminator.weight.grad is None, torch.equal(images.grad, discriminator.weight)
        (True, True)
    """
    if any(hasattr(module, "unshard") for module in discriminator.modules()):
        raise OptionError(
            "a discriminator that fully_shard divides with the task only",
            got="one that is divided by itself",
            fix="Call fully_shard(task), and on other parts of it, but not on the discriminator.",
        )
    weights = {name: weight.detach() for name, weight in discriminator.named_parameters()}
    logits: Tensor = torch.func.functional_call(discriminator, weights, (images,))
    return logits
