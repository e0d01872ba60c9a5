"""From images and their reconstructions to maps of the error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

from torch import Tensor, nn

from pretextkit.errors import ShapeError, unknown_name
from pretextkit.evaluation._features import Layers, Model
from pretextkit.evaluation._capture import capture_maps

__all__ = ["ErrorMaps", "feature_distance", "resolve_error"]

ErrorName = Literal["l1", "l2", "ssim"]
ErrorMaps = ErrorName | Callable[[Tensor, Tensor], Tensor]
"""A name, or any function from images and reconstructions ``b c h w`` to maps ``b h w``."""

SSIM_WINDOW = 11
"""Side of the Gaussian window of the original SSIM, with a standard deviation of 1.5 pixels."""


def feature_distance(backbone: Model, *, layers: Layers = "all") -> Callable[[Tensor, Tensor], Tensor]:
    """Make an error of the distance between a backbone's features of images and of their reconstructions.

    Features see what a difference of pixels does not, such as a texture that was smoothed away. At each place they are
    brought to unit length; squared distances are resized to the image and averaged over layers (Zhang et al. 2018,
    arXiv 1801.03924, without its learnt weights).

    Args:
        backbone: A ``SpatialBackbone``, any module with layers that give maps, or a function that gives maps.
        layers: As for :func:`~pretextkit.functional.extract_features`.

    Returns:
        A function from images and reconstructions ``b c h w`` to maps ``b h w``, for the ``error`` of
        :func:`reconstruction_anomaly_score`. It does not change the backbone's mode and lets gradients through, so that
        it can be a loss, too.

    Raises:
        UnknownNameError: The backbone has no layer of that name.
        ShapeError: A layer does not give maps, or reconstructions have another shape than the images. This and the one
            above are raised at the first images.

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
                "reconstructions of the images' shape",
                got=f"{tuple(reconstructions.shape)} for {tuple(images.shape)}",
                fix="Resize them, and give one for each image.",
            )
        with capture_maps(backbone, layers) as read:
            pairs = zip(read(images).values(), read(reconstructions).values(), strict=True)
            maps = [(nn.functional.normalize(a) - nn.functional.normalize(b)).square().sum(1) for a, b in pairs]
        return sum((resize_maps(each, images) for each in maps[1:]), resize_maps(maps[0], images)) / len(maps)

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
    """Give the function that a name stands for, or the function itself, made to give maps of the images' size.

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
        maps = error(images, reconstructions)
        expected = (len(images), *images.shape[2:])
        if maps.shape != expected:
            raise ShapeError(
                f"error maps b h w of shape {expected}",
                got=f"shape {tuple(maps.shape)}",
                fix="Average over channels: (images - reconstructions).abs().mean(1).",
            )
        return maps

    return measure


def _ssim(images: Tensor, reconstructions: Tensor) -> Tensor:
    height, width = images.shape[2:]
    if min(height, width) < SSIM_WINDOW:
        raise ShapeError(
            f"images of at least {SSIM_WINDOW}x{SSIM_WINDOW} pixels for error='ssim'",
            got=f"{height}x{width}",
            fix="Use error='l2', or resize them.",
        )
    from torchmetrics.functional.image import structural_similarity_index_measure

    _, similarity = structural_similarity_index_measure(
        reconstructions, images, data_range=1.0, reduction="none", return_full_image=True
    )
    return 1 - similarity.mean(1)
