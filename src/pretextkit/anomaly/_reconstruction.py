"""Score images by their reconstruction error."""

from __future__ import annotations

from collections.abc import Callable
from textwrap import shorten
from typing import Any

import torch
from torch import Tensor

from pretextkit._evaluation_mode import evaluation_mode
from pretextkit._fingerprint import function_name
from pretextkit._modules import module_device, module_dtype, refuse_meta, unwrap
from pretextkit._validation import check_finite, check_tensor
from pretextkit.anomaly._error_maps import ErrorMaps, Reduction, resolve_error, resolve_reduction
from pretextkit.anomaly._scores import AnomalyScores, files_of, full_images, image_batches
from pretextkit.contracts import PretextTask
from pretextkit.data import ImagesLike, as_source
from pretextkit.data._accepted_channels import retry_in_color
from pretextkit.data._collate import join_maps
from pretextkit.data._sources import ImageSource
from pretextkit.data._types import OnError, Size
from pretextkit.errors import OptionError, ShapeError

__all__ = ["reconstruction_anomaly_score"]


def reconstruction_anomaly_score(
    reconstruct: Callable[[Tensor], Tensor],
    images: ImagesLike,
    *,
    error: ErrorMaps = "l2",
    reduction: Reduction = "mean",
    batch_size: int = 256,
    size: Size | None = None,
    on_error: OnError = "raise",
) -> AnomalyScores:
    """Score images by their reconstruction error.

    A model trained to reconstruct normal images reconstructs anomalies badly (Sakurada & Yairi 2014,
    doi 10.1145/2689746.2689747). Modules, including those called inside a function, run in evaluation mode; their state
    is restored afterwards.

    Args:
        reconstruct: Any module or function from images ``b c h w`` in [0, 1] to images of the same shape, for example
            ``lambda x: decoder(encoder(x))``.
        images: Images to score: tensor ``n c h w``, numpy array, ``Dataset``, ``DataLoader`` or a folder's path.
        error: ``"l1"`` or ``"l2"`` difference of each pixel, averaged over channels; ``"ssim"``, one minus the
            structural similarity around each pixel (Wang et al. 2004, doi 10.1109/TIP.2003.819861); or a function from
            images and reconstructions to maps ``b h w``, such as one made by :func:`feature_distance`.
        reduction: Reduction of a map to a score: ``"mean"``, ``"max"``, or a function such as ``TopFraction(0.01)``,
            the mean of the highest 1 % of the pixels.
        batch_size: Images per forward pass.
        size: Side of the images of files or of a dataset, or a pair (height, width), as for
            :class:`~pretextkit.data.FolderImages`.
        on_error: ``"raise"`` an error for an image file that cannot be decoded, or ``"skip"`` it.

    Returns:
        A score and an error map ``h w`` for each image.

    Raises:
        UnknownNameError: There is no error or reduction of that name.
        OptionError: ``batch_size`` is below 1, or ``reconstruct`` is a task.
        ShapeError: Reconstructions differ in shape from the images, a custom error or reduction returns a wrong shape,
            or images are smaller than the 11x11 pixel window of ``"ssim"``.
        DataError: Reconstructions, error maps or scores are NaN, infinite or no floats.

    Example:
        >>> images = torch.zeros(2, 1, 8, 8)
        >>> images[1, 0, 0, 0] = 1.0
        >>> result = reconstruction_anomaly_score(torch.zeros_like, images)
        >>> result.scores, result.maps.shape
        (tensor([0.0000, 0.0156]), torch.Size([2, 8, 8]))
    """
    measure, reduce = resolve_error(error), resolve_reduction(reduction)
    (images,) = full_images(images, size=size, on_error=on_error)
    _refuse_task(reconstruct)
    refuse_meta(reconstruct, "the model of reconstruct")
    with evaluation_mode(reconstruct), evaluation_mode(error):
        errors = retry_in_color(lambda source: _error_maps(reconstruct, measure, source, batch_size), as_source(images))
    return AnomalyScores(
        reduce(errors),
        errors,
        files_of(images),
        measure=f"{shorten(str(function_name(error)), 60)} error of the reconstruction ({function_name(reduction)})",
        by="reconstruction_anomaly_score",
    )


def _refuse_task(reconstruct: Any) -> None:
    """Refuse a task, which is a module of views, and name its function of images if it has one.

    Raises:
        OptionError: It is one.
    """
    task = unwrap(reconstruct)
    if isinstance(task, PretextTask):
        own = callable(getattr(task, "reconstruct", None))
        fix = "Pass task.reconstruct." if own else "Train pretextkit.tasks.Autoencoder(backbone) for reconstructions."
        raise OptionError("a function that reconstructs images", got=f"the task {type(task).__name__}", fix=fix)


def _error_maps(
    reconstruct: Callable[[Tensor], Tensor],
    measure: Callable[[Tensor, Tensor], Tensor],
    source: ImageSource,
    batch_size: int,
) -> Tensor:
    """Reconstruct images, and measure the error of each pixel, ``n h w``."""
    device, dtype = module_device(reconstruct), module_dtype(reconstruct)
    maps = []
    for inputs in image_batches(source, batch_size, device, of=reconstruction_anomaly_score):
        outputs = check_tensor(
            reconstruct(inputs if dtype == torch.float32 else inputs.to(dtype)),
            "reconstructions from reconstruct",
            "Return the images only, as one tensor.",
        )
        if outputs.shape != inputs.shape:
            raise ShapeError(
                f"reconstructions with the shape of the images {tuple(inputs.shape)}",
                got=tuple(outputs.shape),
                fix="Return images from reconstruct: decoder(encoder(images)).",
            )
        check_finite(outputs, "reconstructions")
        maps.append(measure(inputs, outputs.float()).cpu())
    return join_maps(maps)
