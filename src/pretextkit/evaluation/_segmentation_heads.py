"""Segmentation heads on feature maps, and their training."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from pretextkit._seeding import derived_generator, derived_seed, seeded
from pretextkit._validation import check_int
from pretextkit.training._optim import parameter_groups, warmup_cosine

__all__ = ["ConvMapHead", "LinearMapHead", "MapHead", "PixelHead", "fit_map_head", "sampled_at", "upsampled"]

MapHead = Callable[[int, int], nn.Module]
"""Function from the number of channels and of classes to a module from maps ``b d h' w'`` to logits ``b k h' w'``."""


class PixelHead(nn.Module):
    """Base class of heads that apply, in evaluation mode, one affine function to every position of a map.

    Upsampling and an affine function commute. On large maps, the head is therefore fitted to sampled pixels only.

    Example:
        >>> class Plain(PixelHead):
        ...     def __init__(self, feature_dim, classes):
        ...         super().__init__()
        ...         self.classify = nn.Conv2d(feature_dim, classes, 1)
        ...     def forward(self, maps):
        ...         return self.classify(maps)
        >>> Plain(64, 11)(torch.rand(2, 64, 15, 20)).shape
        torch.Size([2, 11, 15, 20])
    """


class LinearMapHead(PixelHead):
    """Linear classifier of every position of a map: a 1x1 convolution of standardized channels.

    Example:
        >>> LinearMapHead(64, 11)(torch.rand(2, 64, 15, 20)).shape
        torch.Size([2, 11, 15, 20])
    """

    def __init__(self, feature_dim: int, classes: int) -> None:
        super().__init__()
        self.standardize = _standardize(feature_dim)
        self.classify = _classifier(feature_dim, classes)

    def forward(self, maps: Tensor) -> Tensor:
        logits: Tensor = self.classify(self.standardize(maps))
        return logits


class ConvMapHead(nn.Module):
    """Convolutional classifier: a 3x3 convolution of standardized channels to 128 channels, and a linear classifier.

    Example:
        >>> ConvMapHead(64, 11)(torch.rand(2, 64, 15, 20)).shape
        torch.Size([2, 11, 15, 20])
    """

    def __init__(self, feature_dim: int, classes: int) -> None:
        super().__init__()
        self.standardize = _standardize(feature_dim)
        self.mix = nn.Conv2d(feature_dim, 128, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(128)
        self.classify = _classifier(128, classes)

    def forward(self, maps: Tensor) -> Tensor:
        logits: Tensor = self.classify(self.norm(self.mix(self.standardize(maps))).relu())
        return logits


def fit_map_head(
    head: nn.Module,
    maps: Tensor,
    masks: Tensor,
    *,
    learning_rate: float,
    steps: int,
    batch_size: int,
    pixels: int,
    ignore_index: int,
    seed: int,
) -> None:
    """Fit a head to the cross-entropy of random pixels by AdamW with a cosine schedule.

    Each step samples the bilinearly upsampled logits at ``pixels`` random positions of each image (as PointRend does,
    Kirillov et al. 2020, arXiv 1912.08193). The expected gradient is that of all pixels, at a small fraction of the
    cost. For a :class:`PixelHead` on large maps, the maps are sampled in place of the logits, which is faster.

    Args:
        head: Module from maps to logits; trained in place and left in evaluation mode.
        maps: ``n d h' w'``, of any floating dtype.
        masks: ``n h w``, the classes of pixels.
        learning_rate: Highest learning rate of the schedule.
        steps: Optimizer steps.
        batch_size: Images per step, drawn with replacement.
        pixels: Random pixels per image.
        ignore_index: Class of pixels that are left out of the loss.
        seed: Seed of images, pixels and random layers.
    """
    device = next(head.parameters()).device
    optimizer = torch.optim.AdamW(parameter_groups(head), lr=learning_rate, weight_decay=1e-2)
    generator = derived_generator(seed, "pixels")
    height, width = masks.shape[1:]
    # Sampling costs more per position: below three positions per sampled pixel, the full map is faster.
    sparse = isinstance(head, PixelHead) and maps.shape[2:].numel() > 3 * pixels and batch_size * pixels > 1
    head.train()
    with seeded(derived_seed(seed, "layers")):  # a user's head may have dropout
        for step in range(steps):
            rows = torch.randint(len(maps), (batch_size,), generator=generator)
            y = torch.randint(height, (batch_size, pixels), generator=generator)
            x = torch.randint(width, (batch_size, pixels), generator=generator)
            targets = masks[rows[:, None], y, x].long().to(device)
            chosen = maps[rows].to(device).float()
            if sparse:
                logits = head(sampled_at(chosen, y, x, (height, width))[:, :, None])[:, :, 0]
            else:
                logits = sampled_at(head(chosen), y, x, (height, width))
            loss = nn.functional.cross_entropy(logits, targets, ignore_index=ignore_index, reduction="sum")
            loss = loss / (targets != ignore_index).sum().clamp(min=1)  # the mean over no pixel would be NaN
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * warmup_cosine(step, steps, 0)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
    head.eval()


def sampled_at(maps: Tensor, y: Tensor, x: Tensor, size: tuple[int, int]) -> Tensor:
    """Sample maps or logits ``b d h' w'``, upsampled to ``size``, at pixels ``y``, ``x`` (each ``b p``): ``b d p``.

    Example:
        >>> maps, y, x = torch.rand(1, 2, 3, 4), torch.tensor([[5]]), torch.tensor([[7]])
        >>> full = upsampled(maps, (12, 16))
        >>> torch.allclose(sampled_at(maps, y, x, (12, 16))[0, :, 0], full[0, :, 5, 7], atol=1e-5)
        True
    """
    positions = torch.stack([(2 * x + 1) / size[1] - 1, (2 * y + 1) / size[0] - 1], dim=-1)
    grid = positions[:, None].to(maps)
    sampled = nn.functional.grid_sample(maps, grid, padding_mode="border", align_corners=False)
    return sampled[:, :, 0]


def upsampled(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Upsample logits ``b k h' w'`` to ``b k h w`` bilinearly.

    Example:
        >>> upsampled(torch.rand(2, 11, 15, 20), (240, 320)).shape
        torch.Size([2, 11, 240, 320])
    """
    return nn.functional.interpolate(logits, size, mode="bilinear", align_corners=False)


def _standardize(channels: int) -> nn.BatchNorm2d:
    """Standardize each channel; without momentum, the statistics are the average over all steps."""
    feature_dim = check_int("feature_dim", channels, fix="It is the maps' number of channels.")
    return nn.BatchNorm2d(feature_dim, affine=False, momentum=None)


def _classifier(channels: int, classes: int) -> nn.Conv2d:
    """Build a 1x1 convolution with zero weights; random weights would have to be unlearned first."""
    classifier = nn.Conv2d(channels, check_int("classes", classes, fix="Count the background as one."), 1)
    nn.init.zeros_(classifier.weight)
    if classifier.bias is not None:
        nn.init.zeros_(classifier.bias)
    return classifier
