"""Error maps of reconstructions, and their reduction to one score per image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor, nn

from pretextkit._validation import check_finite, check_float, check_tensor
from pretextkit.errors import ShapeError, unknown_name
from pretextkit.evaluation._features import Layers, Model
from pretextkit.inference._capture import capture_maps

__all__ = [
    "ErrorMaps",
    "Reduction",
    "TopFraction",
    "feature_distance",
    "resize_maps",
    "resolve_error",
    "resolve_reduction",
]

ErrorName = Literal["l1", "l2", "ssim"]
ErrorMaps = ErrorName | Callable[[Tensor, Tensor], Tensor]
"""The name of an error, or a function from images and reconstructions ``b c h w`` to maps ``b h w``."""

ReductionName = Literal["mean", "max"]
Reduction = ReductionName | Callable[[Tensor], Tensor]
"""The name of a reduction, or a function from maps ``n h w`` to scores ``n``, such as :class:`TopFraction`."""

SSIM_WINDOW = 11
"""Side in pixels of the Gaussian window of the original SSIM, with a standard deviation of 1.5 pixels."""


def feature_distance(backbone: Model, *, layers: Layers = "all") -> Callable[[Tensor, Tensor], Tensor]:
    """Make an error function from the distance between a backbone's features of images and reconstructions.

    Features detect differences that pixels miss, such as a texture that was smoothed away. Features are normalized to
    unit length at each position; squared distances are resized to the image and averaged over layers (Zhang et al.
    2018, arXiv 1801.03924, without its learned weights).

    Args:
        backbone: A ``SpatialBackbone``, any module with layers that give maps, or a function that gives maps.
        layers: Layers to compare, as for :func:`~pretextkit.functional.extract_features`.

    Returns:
        A function from images and reconstructions ``b c h w`` to maps ``b h w``, for the ``error`` of
        :func:`reconstruction_anomaly_score`. The function is differentiable and leaves the backbone's mode unchanged,
        so it can also serve as a loss.

    Raises:
        UnknownNameError: The backbone has no layer of that name.
        ShapeError: A layer does not give maps, or the shapes of reconstructions and images differ. Both errors are
            raised at the first call of the function.

    Example:
        >>> import torch
        >>> from pretextkit.models import SmallCNN
        >>> error = feature_distance(SmallCNN().eval(), layers=["stage1", "stage2"])
        >>> images = torch.rand(2, 3, 32, 32)
        >>> error(images, images).shape, error(images, images).max().item()
        (torch.Size([2, 32, 32]), 0.0)
    """

    def distance(images: Tensor, reconstructions: Tensor) -> Tensor:
        if images.shape != reconstructions.shape:
            raise ShapeError(
                "reconstructions with the shape of the images",
                got=f"{tuple(reconstructions.shape)} for {tuple(images.shape)}",
                fix="Pass one reconstruction for each image, resized to the image.",
            )
        with capture_maps(backbone, layers) as read:
            pairs = zip(read(images).values(), read(reconstructions).values(), strict=True)
            maps = [(nn.functional.normalize(a) - nn.functional.normalize(b)).square().sum(1) for a, b in pairs]
        return sum((resize_maps(each, images) for each in maps[1:]), resize_maps(maps[0], images)) / len(maps)

    distance.__qualname__ = "feature_distance"  # named so in results
    return distance


def resize_maps(maps: Tensor, images: Tensor) -> Tensor:
    """Resize maps ``b h' w'`` bilinearly to the height and width of ``images``.

    Example:
        >>> import torch
        >>> resize_maps(torch.ones(2, 4, 4), torch.rand(2, 3, 9, 8)).shape
        torch.Size([2, 9, 8])
    """
    size = (images.shape[-2], images.shape[-1])
    return nn.functional.interpolate(maps[:, None], size, mode="bilinear", align_corners=False)[:, 0]


def resolve_error(error: ErrorMaps) -> Callable[[Tensor, Tensor], Tensor]:
    """Look up an error function by name, or wrap a function with a check of its output shape.

    Raises:
        UnknownNameError: There is no error of that name.

    Example:
        >>> import torch
        >>> resolve_error("l1")(torch.ones(1, 3, 2, 2), torch.zeros(1, 3, 2, 2)).tolist()
        [[[1.0, 1.0], [1.0, 1.0]]]
    """
    if error == "l1":
        return lambda images, reconstructions: (images - reconstructions).abs().mean(1)
    if error == "l2":
        return lambda images, reconstructions: (images - reconstructions).square().mean(1)
    if error == "ssim":
        return _ssim
    if not callable(error):
        raise unknown_name("reconstruction error", error, get_args(ErrorName), "feature_distance(backbone) is another.")

    def measure(images: Tensor, reconstructions: Tensor) -> Tensor:
        maps = check_tensor(error(images, reconstructions), "error maps from error", "Return maps b h w.")
        expected = (len(images), *images.shape[2:])
        if maps.shape != expected:
            raise ShapeError(
                f"error maps b h w of shape {expected}",
                got=f"shape {tuple(maps.shape)}",
                fix="Average over channels: maps.mean(1)." if maps.ndim == 4 else "Return one error for each pixel.",
            )
        check_finite(maps, "error maps from error", "Add a small constant to divisors, roots and logarithms.")
        return maps

    return measure


def _ssim(images: Tensor, reconstructions: Tensor) -> Tensor:
    height, width = images.shape[2:]
    if min(height, width) < SSIM_WINDOW:
        raise ShapeError(
            f"images of at least {SSIM_WINDOW}x{SSIM_WINDOW} pixels for error='ssim'",
            got=f"{height}x{width}",
            fix="Use error='l2', or resize the images.",
        )
    from torchmetrics.functional.image import structural_similarity_index_measure

    _, similarity = structural_similarity_index_measure(
        reconstructions, images, data_range=1.0, reduction="none", return_full_image=True
    )
    return 1 - similarity.mean(1)


@dataclass(frozen=True)
class TopFraction:
    """Average the highest pixels of a map.

    Small defects stay visible, unlike in a mean over the image, and the score does not depend on a single pixel, unlike
    the maximum.

    Args:
        fraction: Fraction of the pixels to average, above 0 and up to 1; at least one pixel is used.

    Raises:
        OptionError: ``fraction`` is out of range.

    Example:
        >>> import torch
        >>> TopFraction(0.5)(torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]))
        tensor([3.5000])
    """

    fraction: float = 0.01

    def __post_init__(self) -> None:
        check_float("fraction", self.fraction, "(0, 1]", fix="0.01 takes the highest hundredth of the pixels.")

    def __call__(self, maps: Tensor) -> Tensor:
        pixels = maps.flatten(1)
        return pixels.topk(max(1, int(pixels.shape[1] * self.fraction))).values.mean(1)


def resolve_reduction(reduction: Reduction) -> Callable[[Tensor], Tensor]:
    """Look up a reduction by name, or wrap a function with a check of its output shape.

    Raises:
        UnknownNameError: There is no reduction of that name.

    Example:
        >>> import torch
        >>> resolve_reduction("max")(torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]))
        tensor([4.])
    """
    if reduction == "mean":
        return lambda maps: maps.flatten(1).mean(1)
    if reduction == "max":
        return lambda maps: maps.flatten(1).amax(1)
    if not callable(reduction):
        raise unknown_name(
            "reduction", reduction, get_args(ReductionName), "TopFraction(0.01) takes the highest pixels."
        )

    def reduce(maps: Tensor) -> Tensor:
        scores = check_tensor(reduction(maps), "scores from reduction", "Return maps.amax((1, 2)), for example.")
        if scores.shape != maps.shape[:1]:
            raise ShapeError(
                f"a reduction that gives {len(maps)} scores for {len(maps)} maps",
                got=f"shape {tuple(scores.shape)}",
                fix="Reduce the last two axes: maps.amax((1, 2)).",
            )
        check_finite(scores, "scores from reduction", "Add a small constant to divisors, roots and logarithms.")
        return scores

    return reduce
