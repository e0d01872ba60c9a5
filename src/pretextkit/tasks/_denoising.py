"""Denoising: reconstruct an image from a corrupted version."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Generator, Tensor

from pretextkit._validation import check_float
from pretextkit.batches import Masked
from pretextkit.contracts import PretextTask, SpatialBackboneT, TaskOutput
from pretextkit.losses import psnr, weighted_mse
from pretextkit.models.heads import ConvDecoder
from pretextkit.models.heads._decoder import match_images
from pretextkit.registries import register_pretext_task
from pretextkit.views import hide_pixels, mask_patches
from pretextkit.views._augmentation import Augmentation, LightAugmentation, augmented, check_augmentation

__all__ = ["Corruption", "Denoising", "GaussianNoise", "HiddenPatches"]


class Corruption(Protocol):
    """A function that corrupts images ``b c h w``, with a random draw for each image."""

    def __call__(self, images: Tensor, generator: Generator) -> Masked: ...


class HiddenPatches(NamedTuple):
    """Hide a fraction of the patches of a grid; ``patch=1`` hides single pixels."""

    fraction: float = 0.5
    patch: int = 4

    def __call__(self, images: Tensor, generator: Generator) -> Masked:
        """Hide random patches of images ``b c h w``, drawn for each image."""
        mask = mask_patches(images, fraction=self.fraction, patch=self.patch, generator=generator)
        return Masked(hide_pixels(images, mask), mask, images)


class GaussianNoise(NamedTuple):
    """Add Gaussian noise to every pixel and channel; all pixels count as hidden."""

    std: float = 0.2

    def __call__(self, images: Tensor, generator: Generator) -> Masked:
        """Add noise to images ``b c h w`` and clamp the result to [0, 1].

        Raises:
            OptionError: ``std`` is not positive.
        """
        std = check_float("std", self.std, "(0, inf)", fix="For example 0.2.")
        noise = torch.randn(images.shape, generator=generator, device=generator.device).to(images)
        mask = torch.ones_like(images[:, :1], dtype=torch.bool)
        return Masked((images + std * noise).clamp(0, 1), mask, images)


@register_pretext_task("denoising")
class Denoising(PretextTask[Masked, SpatialBackboneT]):
    """Reconstruct images from corrupted versions.

    To undo the corruption, a network has to learn the structure of images; copying the input does not help, even with a
    wide code (Vincent et al. 2008, doi 10.1145/1390156.1390294). All pixels count in the loss, so :meth:`reconstruct`
    also maps uncorrupted images towards the training distribution.

    Not suited to classes that differ in fine detail, because corruption removes it.

    Metrics: ``mse`` and ``psnr`` (in decibels) of all pixels, ``mse_hidden`` of the hidden pixels, and ``psnr_input``
    of the corrupted images, the baseline of a model that copies its input.

    Args:
        backbone: Backbone to train.
        corruption: :class:`HiddenPatches`, :class:`GaussianNoise`, or any :class:`Corruption`.
        bottleneck: Number of channels to which the last feature map is reduced before decoding; None keeps all.
        augmentation: Augmentation of each image before its corruption; the augmented image is the target. None leaves
            the images as they are. The default mirrors no image.

    Raises:
        OptionError: The backbone has no feature maps, ``bottleneck`` is below 1, or ``augmentation`` is no function.

    Example:
        >>> from pretextkit.models import SmallCNN
        >>> task = Denoising(SmallCNN(), corruption=HiddenPatches(fraction=0.25, patch=1))
        >>> batch = task.views(torch.rand(2, 3, 32, 32), torch.Generator().manual_seed(0))
        >>> batch.mask.sum((1, 2, 3))
        tensor([256, 256])
        >>> task.reconstruct(batch.visible).shape
        torch.Size([2, 3, 32, 32])
    """

    def __init__(
        self,
        backbone: SpatialBackboneT,
        *,
        corruption: Corruption = HiddenPatches(),  # noqa: B008 - a tuple, which cannot change
        bottleneck: int | None = None,
        augmentation: Augmentation | None = LightAugmentation(),  # noqa: B008 - a tuple, which cannot change
    ) -> None:
        super().__init__(backbone)
        self.augmentation = check_augmentation(augmentation)
        self.corruption = corruption
        self.head = ConvDecoder.fitting(backbone, bottleneck=bottleneck)

    def views(self, images: Tensor, generator: Generator) -> Masked:
        """Augment and corrupt images ``b c h w``, with random draws for each image.

        Raises:
            OptionError: An option of the corruption is out of range.
            ShapeError: The images are too small for the corruption.
        """
        return self.corruption(augmented(self.augmentation, images, generator), generator)

    def reconstruct(self, images: Tensor) -> Tensor:
        """Reconstruct images ``b c h w``, corrupted or not, in [0, 1]."""
        return match_images(self.head(self.backbone.feature_map(images)), images)

    def forward(self, batch: Masked) -> TaskOutput:
        prediction = self.reconstruct(batch.visible)
        everywhere = torch.ones_like(batch.mask)
        loss = weighted_mse(prediction, batch.target, everywhere)
        return TaskOutput(
            loss,
            {
                "mse": loss.detach(),
                "mse_hidden": weighted_mse(prediction.detach(), batch.target, batch.mask),
                "psnr": psnr(loss),
                "psnr_input": psnr(weighted_mse(batch.visible, batch.target, everywhere)),
            },
        )
