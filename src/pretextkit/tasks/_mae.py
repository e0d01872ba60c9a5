"""MAE: reconstruct the hidden patches of an image from the visible ones."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Generator, Tensor, nn

from pretextkit._modules import unwrap
from pretextkit._validation import check_float, check_int
from pretextkit.batches import Masked
from pretextkit.contracts import PretextTask, Recommended, TaskOutput, TokenBackbone, TokenBackboneT
from pretextkit.errors import OptionError, ShapeError
from pretextkit.losses import masked_mse
from pretextkit.models._transformer import Block, initialize, sincos_positions
from pretextkit.registries import register_pretext_task
from pretextkit.tasks._denoising import HiddenPatches
from pretextkit.views._augmentation import Augmentation, LightAugmentation, augmented, check_augmentation

__all__ = ["MAE"]

HEADS = 4


@register_pretext_task("mae")
class MAE(PretextTask[Masked, TokenBackboneT]):
    """Reconstruct the hidden patches of an image from the few visible ones.

    The backbone computes on the visible patches only. A light decoder, which is not kept, gets the encoded patches, and
    one learned token for each hidden patch (He et al. 2021, arXiv 2111.06377). The target is each patch, normalized by
    its own mean and standard deviation. Differences from the paper: no class token, and a decoder of two blocks.

    Not suited to linear probes, few images or short runs: judge its features by fine-tuning.

    Metrics: ``mse`` of the hidden patches, and ``mse_of_mean``, the error of a prediction of each patch's mean, about
    1: the task has learned something once ``mse`` is below it.

    Args:
        backbone: Backbone to train, which computes on tokens: ``vit-tiny``, or a wrapped ``VisionTransformer`` of timm.
        masked_fraction: Fraction of the patches to hide.
        decoder_dim: Width of the decoder, a multiple of 4.
        decoder_depth: Number of blocks of the decoder.
        augmentation: Augmentation of each image before it is masked; None leaves the images as they are. The default
            crops only, because recoloring does not help here.

    Raises:
        OptionError: The backbone does not compute on tokens, or a number is out of range.

    Example:
        >>> from pretextkit.models import ViTTiny
        >>> task = MAE(ViTTiny())
        >>> batch = task.views(torch.rand(2, 3, 32, 32), torch.Generator().manual_seed(0))
        >>> task.predict(batch).shape  # 64 patches of 4x4 pixels in 3 colors
        torch.Size([2, 64, 48])
        >>> sorted(task(batch).metrics)
        ['mse', 'mse_of_mean']
    """

    recommended = Recommended(learning_rate=1e-3, smallest_batch=64, largest_batch=256)

    def __init__(
        self,
        backbone: TokenBackboneT,
        *,
        masked_fraction: float = 0.75,
        decoder_dim: int = 128,
        decoder_depth: int = 2,
        augmentation: Augmentation | None = LightAugmentation(jitter=0.0),  # noqa: B008 - a tuple, which cannot change
    ) -> None:
        super().__init__(backbone)
        network = unwrap(backbone)
        if not isinstance(network, TokenBackbone):
            raise OptionError(
                "a TokenBackbone, because masked patches are left out of its computation",
                got=type(network).__name__,
                fix="Use pretextkit.models.ViTTiny(), or wrap a VisionTransformer of timm.",
            )
        self.augmentation = check_augmentation(augmentation)
        self.masked_fraction = check_float("masked_fraction", masked_fraction, "(0, 1)", of=MAE)
        self.patch, self.channels = network.patch, network.normalization.channels
        self.decoder = Decoder(
            network.feature_dim,
            check_width(decoder_dim),
            check_int("decoder_depth", decoder_depth, of=MAE),
            self.channels * self.patch**2,
        )

    def views(self, images: Tensor, generator: Generator) -> Masked:
        """Augment images ``b c h w``, and hide patches of the backbone's grid, as many in each image.

        Raises:
            ShapeError: The images are not larger than one patch.
        """
        images = augmented(self.augmentation, images, generator)
        return HiddenPatches(self.masked_fraction, self.patch)(images, generator)

    def predict(self, batch: Masked) -> Tensor:
        """Predict the normalized pixels of all patches, ``b n p``, from the visible patches only.

        Raises:
            ShapeError: The mask hides more patches of one image than of another.
        """
        hidden = self.hidden(batch)
        counts = hidden.sum(1)
        if bool((counts != counts[0]).any()):
            raise ShapeError(
                "masks that hide equally many patches of each image",
                got=f"from {int(counts.min())} to {int(counts.max())}",
                fix=f"Make masks with pretextkit.views.mask_patches(images, patch={self.patch}, generator=generator).",
            )
        tokens = self.backbone.tokens(batch.visible)
        seen = tokens[~hidden].view(len(tokens), -1, tokens.shape[2])
        predictions: Tensor = self.decoder(self.backbone.encode(seen), hidden, *self.backbone.grid(batch.visible))
        return predictions

    def hidden(self, batch: Masked) -> Tensor:
        """Reduce the mask of pixels to a mask of patches, ``b n``."""
        return batch.mask[:, 0, :: self.patch, :: self.patch].flatten(1)

    def targets(self, batch: Masked) -> Tensor:
        """Cut the original images into patches ``b n p``, and normalize each."""
        return normalized(cut(self.backbone.normalization.adapt(batch.target), self.patch))

    def forward(self, batch: Masked) -> TaskOutput:
        hidden, targets = self.hidden(batch), self.targets(batch)
        loss = masked_mse(self.predict(batch), targets, hidden)
        of_mean = masked_mse(torch.zeros_like(targets), targets, hidden)
        return TaskOutput(loss, {"mse": loss.detach(), "mse_of_mean": of_mean})


class Decoder(nn.Module):
    """A small transformer from encoded visible patches to the pixels of all patches.

    Args:
        in_dim: Width of the encoded patches.
        width: Width of the decoder.
        depth: Number of blocks.
        out_dim: Numbers in a patch.
    """

    def __init__(self, in_dim: int, width: int, depth: int, out_dim: int) -> None:
        super().__init__()
        self.embedding = nn.Linear(in_dim, width)
        self.mask_token = nn.Parameter(0.02 * torch.randn(width))
        self.blocks = nn.Sequential(*(Block(width, HEADS) for _ in range(depth)))
        self.norm, self.pixels = nn.LayerNorm(width), nn.Linear(width, out_dim)
        initialize(self)

    def forward(self, seen: Tensor, hidden: Tensor, rows: int, columns: int) -> Tensor:
        """Map encoded patches ``b k d`` and a mask ``b n`` of hidden patches to ``b n p``."""
        tokens = self.mask_token.expand(*hidden.shape, -1).clone()
        tokens[~hidden] = self.embedding(seen).flatten(0, 1).to(tokens.dtype)
        tokens = tokens + sincos_positions(rows, columns, tokens.shape[2], tokens)
        return self.pixels(self.norm(self.blocks(tokens)))  # type: ignore[no-any-return]


def check_width(width: int) -> int:
    """Check that a width has room for heads and positions."""
    width = check_int("decoder_dim", width, of=MAE)
    if width % HEADS:
        raise OptionError(
            f"decoder_dim to be a multiple of {HEADS}", got=width, fix=f"For example {-(-width // HEADS) * HEADS}."
        )
    return width


def cut(images: Tensor, patch: int) -> Tensor:
    """Cut images ``b c h w`` into patches ``b n p``, row by row; black pixels complete the last ones.

    Example:
        >>> cut(torch.arange(6.0).view(1, 1, 2, 3), 2)
        tensor([[[0., 1., 3., 4.],
                 [2., 0., 5., 0.]]])
    """
    bottom, right = (-side % patch for side in images.shape[2:])
    images = nn.functional.pad(images, (0, right, 0, bottom))
    return rearrange(images, "b c (r p) (k q) -> b (r k) (p q c)", p=patch, q=patch)


def normalized(patches: Tensor) -> Tensor:
    """Subtract the mean of each patch ``b n p``, and divide by its standard deviation.

    Example:
        >>> normalized(torch.tensor([[[0.0, 2.0, 4.0]]])).round(decimals=3)
        tensor([[[-1.,  0.,  1.]]])
    """
    variance = patches.var(2, correction=min(1, patches.shape[2] - 1), keepdim=True)
    return (patches - patches.mean(2, keepdim=True)) / (variance + 1e-6).sqrt()
