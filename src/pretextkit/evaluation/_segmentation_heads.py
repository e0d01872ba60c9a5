"""Small heads from feature maps to the classes of pixels, and how they are fitted."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from pretextkit._seeding import derived_generator, derived_seed, seeded
from pretextkit._validation import check_int
from pretextkit.training._optim import parameter_groups, warmup_cosine

__all__ = ["ConvMapHead", "LinearMapHead", "MapHead", "PixelHead", "fit_map_head", "sampled_at", "upsampled"]

MapHead = Callable[[int, int], nn.Module]
"""From the maps' channels and the number of classes to a module that maps ``b d h' w'`` to logits ``b k h' w'``."""


class PixelHead(nn.Module):
    """A head that, in evaluation mode, reads each place of a map by an affine function of that place alone.

    Scaling its logits up is then the same as scaling the maps up, so that on large maps it is fitted to the pixels that
    a step looks at, without a look at the others.

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
    """One linear classifier for every place of a map: a 1x1 convolution of standardized channels.

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
    """A 3x3 convolution of standardized channels to 128, and a linear classifier: each place sees its neighbors.

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
    """Fit a head by AdamW with a cosine schedule to the cross-entropy of random pixels.

    The logits are scaled up to the masks bilinearly, but only where a step looks: at ``pixels`` places of each image,
    drawn anew (as PointRend trains, Kirillov et al. 2020, arXiv 1912.08193). The gradient expected is that of all
    pixels, at a small part of the cost. For a :class:`PixelHead`, maps of many more places than that are scaled up
    there instead, and it sees nothing else of them, which is faster.

    Args:
        head: Trained in place, and left in evaluation mode.
        maps: ``n d h' w'``, of any floating dtype.
        masks: ``n h w``, the classes of pixels.
        learning_rate: At its highest.
        steps: How many.
        batch_size: Images a step, drawn with replacement.
        pixels: Pixels an image.
        ignore_index: Pixels of this class have no part in the loss.
        seed: Of what is drawn.
    """
    device = next(head.parameters()).device
    optimizer = torch.optim.AdamW(parameter_groups(head), lr=learning_rate, weight_decay=1e-2)
    generator = derived_generator(seed, "pixels")
    height, width = masks.shape[1:]
    # Reading single places costs more a place: below three times as many, the whole map is read sooner.
    sparse = isinstance(head, PixelHead) and maps.shape[2:].numel() > 3 * pixels and batch_size * pixels > 1
    head.train()
    with seeded(derived_seed(seed, "layers")):  # a head of one's own may have dropout
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
            loss = loss / (targets != ignore_index).sum().clamp(min=1)  # a mean of no pixel would be NaN
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * warmup_cosine(step, steps, 0)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
    head.eval()


def sampled_at(maps: Tensor, y: Tensor, x: Tensor, size: tuple[int, int]) -> Tensor:
    """Read maps or logits ``b d h' w'``, scaled up to ``size``, at the pixels ``y``, ``x`` (each ``b p``): ``b d p``.

    Example:
        >>> maps, y, x = torch.rand(1, 2, 3, 4), torch.tensor([[5]]), torch.tensor([[7]])
        >>> whole = upsampled(maps, (12, 16))
        >>> torch.allclose(sampled_at(maps, y, x, (12, 16))[0, :, 0], whole[0, :, 5, 7], atol=1e-5)
        True
    """
    places = torch.stack([(2 * x + 1) / size[1] - 1, (2 * y + 1) / size[0] - 1], dim=-1)
    grid = places[:, None].to(maps)
    sampled = nn.functional.grid_sample(maps, grid, padding_mode="border", align_corners=False)
    return sampled[:, :, 0]


def upsampled(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Scale logits ``b k h' w'`` up to ``b k h w`` bilinearly.

    Example:
        >>> upsampled(torch.rand(2, 11, 15, 20), (240, 320)).shape
        torch.Size([2, 11, 240, 320])
    """
    return nn.functional.interpolate(logits, size, mode="bilinear", align_corners=False)


def _standardize(channels: int) -> nn.BatchNorm2d:
    """Bring each channel to mean 0 and deviation 1; without momentum, its statistics are those of all steps alike."""
    feature_dim = check_int("feature_dim", channels, fix="It is the maps' number of channels.")
    return nn.BatchNorm2d(feature_dim, affine=False, momentum=None)


def _classifier(channels: int, classes: int) -> nn.Conv2d:
    """Start from indifference: random weights would first have to be unlearned."""
    classifier = nn.Conv2d(channels, check_int("classes", classes, fix="Count the background as one."), 1)
    nn.init.zeros_(classifier.weight)
    if classifier.bias is not None:
        nn.init.zeros_(classifier.bias)
    return classifier
