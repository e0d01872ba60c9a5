"""Context encoder: fill a hole in an image."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Generator, Tensor, nn

from pretextkit._validation import check_float, check_int
from pretextkit.batches import Masked
from pretextkit.contracts import Head, PretextTask, SpatialBackboneT, TaskOutput
from pretextkit.distributed._sharding import has_sharded_part
from pretextkit.errors import OptionError
from pretextkit.losses import discriminator_loss, generator_loss, psnr, weighted_mse
from pretextkit.models.heads import ConvDecoder
from pretextkit.models.heads._decoder import match_images
from pretextkit.registries import register_pretext_task
from pretextkit.views import hide_pixels, mask_blocks, mask_center
from pretextkit.views._augmentation import Augmentation, LightAugmentation, augmented, check_augmentation

__all__ = ["CenterBlock", "ContextEncoder", "HoleShape", "RandomBlocks"]


class HoleShape(Protocol):
    """A function from images ``b c h w`` to masks ``b 1 h w`` of hidden pixels, drawn for each image."""

    def __call__(self, images: Tensor, generator: Generator) -> Tensor: ...


class CenterBlock(NamedTuple):
    """A block in the center; ``side`` is a fraction of the height and width of the image."""

    side: float = 0.5

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        """Mask the center of images ``b c h w``; ``generator`` is not used."""
        return mask_center(images, self.side)


class RandomBlocks(NamedTuple):
    """Blocks at random positions, which may overlap; the default hides at most a quarter of the image."""

    blocks: int = 4
    side: float = 0.25

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        """Mask random blocks of images ``b c h w``, drawn for each image."""
        return mask_blocks(images, count=self.blocks, side=self.side, generator=generator)


@register_pretext_task("context-encoder")
class ContextEncoder(PretextTask[Masked, SpatialBackboneT]):
    """Fill a hole in an image from its surroundings.

    To draw the missing half of a face, a network has to recognize a face (Pathak et al. 2016, arXiv 1604.07379). Only
    the hole and a border around it count in the loss. The border has a higher weight, so that the fill continues its
    surroundings. By default, blocks lie at random positions: with a hole in the center, features overfit to the edges
    of the hole (section 3.3 of the paper).

    With a ``discriminator``, an adversarial loss makes the fill realistic: the discriminator learns to distinguish real
    from generated content, and the decoder learns to fool the discriminator. As in the paper, the discriminator sees
    the hole only, because the seams around the hole would reveal the generated images. Unlike the paper, one optimizer
    updates both networks, and the generator minimizes the non-saturating loss, whose gradient does not vanish for a
    confident discriminator. The total loss then no longer measures the quality of the fill; see ``mse_hidden``.

    Not suited to textures, whose parts say little about each other.

    Metrics: ``mse_hidden`` and ``psnr_hidden`` (in decibels) of the hole; ``mse_border`` of the border; ``psnr_mean``,
    the PSNR of filling the hole with the mean color of the visible pixels. With a discriminator also ``discriminator``,
    its loss (1.39 for random guesses), and ``generator``, the adversarial loss of the decoder.

    Args:
        backbone: Backbone to train.
        hole: Shape of the hole: :class:`RandomBlocks`, :class:`CenterBlock`, or any :class:`HoleShape`.
        overlap: Width of the border in pixels; 0 leaves the border out.
        border_weight: Weight of a pixel of the border, relative to a pixel of the hole.
        discriminator: A head from images, gray outside the hole, to logits, above 0 for real images, such as
            :class:`~pretextkit.models.PatchDiscriminator`. Gray images come as three channels, others as they are.
            None leaves the adversarial loss out.
        adversarial_weight: Weight of the generator loss, relative to the reconstruction loss.
        augmentation: Augmentation of each image before its hole; the augmented image is the target. None leaves the
            images as they are. The default mirrors no image.

    Raises:
        OptionError: The backbone has no feature maps, the discriminator is not a ``Head``, a number is negative, or
            ``augmentation`` is no function.

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
        backbone: SpatialBackboneT,
        *,
        hole: HoleShape = RandomBlocks(),  # noqa: B008 - a tuple, which cannot change
        overlap: int = 2,
        border_weight: float = 10.0,
        discriminator: Head | None = None,
        adversarial_weight: float = 0.001,
        augmentation: Augmentation | None = LightAugmentation(),  # noqa: B008 - a tuple, which cannot change
    ) -> None:
        super().__init__(backbone)
        self.augmentation = check_augmentation(augmentation)
        self.hole = hole
        self.overlap = check_int("overlap", overlap, at_least=0, fix="0 leaves the border out.", of=ContextEncoder)
        self.border_weight = check_float("border_weight", border_weight, "[0, inf)", of=ContextEncoder)
        self.adversarial_weight = check_float("adversarial_weight", adversarial_weight, "[0, inf)", of=ContextEncoder)
        if not isinstance(discriminator, Head | None):
            raise OptionError(
                "discriminator to be a Head or None",
                got=type(discriminator).__name__,
                fix="Pass pretextkit.models.PatchDiscriminator() or another Head.",
            )
        self.head = ConvDecoder.fitting(backbone)
        self.discriminator = discriminator

    def views(self, images: Tensor, generator: Generator) -> Masked:
        """Augment images ``b c h w``, and hide a hole in each: its pixels get the mean color of the visible pixels.

        Raises:
            OptionError: An option of the hole is out of range.
            ShapeError: The images are too small for the hole.
        """
        images = augmented(self.augmentation, images, generator)
        mask = self.hole(images, generator)
        return Masked(hide_pixels(images, mask), mask, images)

    def reconstruct(self, images: Tensor) -> Tensor:
        """Reconstruct all pixels of images ``b c h w``, in [0, 1]."""
        return match_images(self.head(self.backbone.feature_map(images)), images)

    def fill(self, visible: Tensor, mask: Tensor) -> Tensor:
        """Replace the hole ``mask`` (``b 1 h w``, bool) of images ``b c h w`` by its reconstruction."""
        return torch.where(mask, self.reconstruct(visible).to(visible.dtype), visible)

    def forward(self, batch: Masked) -> TaskOutput:
        border = dilate_border(batch.mask, self.overlap)
        prediction = self.reconstruct(batch.visible)
        loss = weighted_mse(prediction, batch.target, batch.mask + self.border_weight * border)
        detached = prediction.detach()
        mse_hidden = weighted_mse(detached, batch.target, batch.mask)
        metrics = {
            "mse_hidden": mse_hidden,
            "mse_border": weighted_mse(detached, batch.target, border),
            "psnr_hidden": psnr(mse_hidden),
            "psnr_mean": psnr(weighted_mse(batch.visible, batch.target, batch.mask)),
        }
        if self.discriminator is None:
            return TaskOutput(loss, metrics)
        real, fake = (mask_outside(images, batch.mask) for images in (batch.target, prediction))
        discriminator_term = discriminator_loss(self.discriminator(real), self.discriminator(fake.detach()))
        generator_term = generator_loss(frozen_forward(self.discriminator, fake))
        metrics |= {"discriminator": discriminator_term.detach(), "generator": generator_term.detach()}
        return TaskOutput(loss + discriminator_term + self.adversarial_weight * generator_term, metrics)


def dilate_border(mask: Tensor, width: int) -> Tensor:
    """Compute the border of a mask ``b 1 h w``: pixels outside the mask within ``width`` rows and columns.

    Example:
        >>> dilate_border(torch.tensor([[[[False, False, True, True, False]]]]), 1).int()
        tensor([[[[0, 1, 0, 0, 1]]]], dtype=torch.int32)
    """
    dilated = nn.functional.max_pool2d(mask.float(), 2 * width + 1, stride=1, padding=width) > 0
    return dilated & ~mask


def mask_outside(images: Tensor, mask: Tensor) -> Tensor:
    """Set the pixels of ``b c h w`` outside the hole ``mask`` (``b 1 h w``, bool) to gray.

    Gray images become ``b 3 h w``.

    Example:
        >>> mask_outside(torch.ones(1, 1, 1, 2), torch.tensor([[[[True, False]]]]))[0, :, 0]
        tensor([[1.0000, 0.5000],
                [1.0000, 0.5000],
                [1.0000, 0.5000]])
    """
    masked = torch.where(mask, images, 0.5)
    return masked.expand(-1, 3, -1, -1) if images.shape[1] == 1 else masked


def frozen_forward(discriminator: nn.Module, images: Tensor) -> Tensor:
    """Compute logits whose gradient reaches the images but not the weights of the discriminator.

    Raises:
        OptionError: ``fully_shard`` was applied to the discriminator itself, which would restore the weights'
            gradients.

    Example:
        >>> discriminator, images = nn.Linear(2, 1), torch.ones(1, 2, requires_grad=True)
        >>> frozen_forward(discriminator, images).backward()
        >>> discriminator.weight.grad is None, torch.equal(images.grad, discriminator.weight)
        (True, True)
    """
    if has_sharded_part(discriminator):
        raise OptionError(
            "a discriminator that is sharded only as part of the task",
            got="a discriminator that was passed to fully_shard itself",
            fix="Call fully_shard on the task and on its other parts, but not on the discriminator.",
        )
    weights = {name: weight.detach() for name, weight in discriminator.named_parameters()}
    logits: Tensor = torch.func.functional_call(discriminator, weights, (images,))
    return logits
