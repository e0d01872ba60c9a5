"""Reconstruction: what a model of normal images cannot reconstruct is strange."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pretextkit._evaluation_mode import evaluation_mode, module_device
from pretextkit.anomaly._error_maps import ErrorMaps, resolve_error
from pretextkit.anomaly._reading import image_batches
from pretextkit.anomaly._reduction import Reduction, resolve_reduction
from pretextkit.anomaly._scores import AnomalyScores
from pretextkit.errors import DataError, ShapeError

__all__ = ["reconstruction_anomaly_score"]


def reconstruction_anomaly_score(
    reconstruct: Callable[[Tensor], Tensor],
    images: Any,
    *,
    error: ErrorMaps = "l2",
    reduction: Reduction = "mean",
    batch_size: int = 256,
) -> AnomalyScores:
    """Score images by how badly they are reconstructed.

    A model trained to reconstruct normal images does badly on what it has never seen (Sakurada & Yairi 2014,
    doi 10.1145/2689746.2689747). Modules, those called by a function included, are in evaluation mode meanwhile and
    come back as they were.

    Args:
        reconstruct: Any module or function from images ``b c h w`` in [0, 1] to images of the same shape, for example
            ``lambda x: decoder(encoder(x))``.
        images: Tensor ``n c h w``, numpy array, ``Dataset``, ``DataLoader`` or a folder's path.
        error: ``"l1"`` or ``"l2"`` difference of each pixel, averaged over channels; ``"ssim"``, one minus the
            structural similarity around it (Wang et al. 2004, doi 10.1109/TIP.2003.819861); or a function from images
            and reconstructions to maps ``b h w``, such as :func:`feature_distance` makes.
        reduction: From a map to a score: its ``"mean"``, its ``"max"``, or a function such as ``TopFraction(0.01)``, the
            mean of the highest hundredth.
        batch_size: Images at a time.

    Returns:
        A score for each image and a map of the error.

    Raises:
        UnknownNameError: There is no error or reduction of that name.
        OptionError: ``batch_size`` is below 1.
        ShapeError: The reconstruction has another shape than the images, a function gives another than it should, or
            images are smaller than the 11 pixels over which ``"ssim"`` looks.
        DataError: The reconstruction has NaN or infinite pixels.

    Example:
        >>> images = torch.zeros(2, 1, 8, 8)
        >>> images[1, 0, 0, 0] = 1.0
        >>> result = reconstruction_anomaly_score(torch.zeros_like, images)
        >>> result.scores, result.maps.shape
        (tensor([0.0000, 0.0156]), torch.Size([2, 8, 8]))
    """
    measure, reduce = resolve_error(error), resolve_reduction(reduction)
    maps = []
    with evaluation_mode(reconstruct), evaluation_mode(error):
        for inputs in image_batches(images, batch_size, module_device(reconstruct), reconstruction_anomaly_score):
            outputs = reconstruct(inputs)
            if outputs.shape != inputs.shape:
                raise ShapeError(
                    f"reconstructions of the images' shape {tuple(inputs.shape)}",
                    got=tuple(outputs.shape),
                    fix="Make reconstruct return images: decoder(encoder(images)).",
                )
            if not outputs.isfinite().all():
                raise DataError("finite reconstructions", got="NaN or inf", fix="Check the model's weights.")
            maps.append(measure(inputs, outputs.float()).cpu())
    errors = torch.cat(maps)
    return AnomalyScores(reduce(errors), errors)
