"""Anomaly scores: what a model of normal images cannot reconstruct is strange."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from pretextkit.data import as_source
from pretextkit.errors import DataError, OptionError, ShapeError
from pretextkit.functional.untouched import evaluating, module_device
from pretextkit.registries import unknown_name

__all__ = ["AnomalyScores", "reconstruction_anomaly_score"]

ErrorName = Literal["l1", "l2", "ssim"]
Reduction = Literal["mean", "max", "top1%"]

SSIM_WINDOW = 11
"""Side of the Gaussian window of the original SSIM, with a standard deviation of 1.5 pixels."""


@dataclass(frozen=True)
class AnomalyScores:
    """How strange images are."""

    scores: Tensor
    """``n``, higher is stranger."""
    maps: Tensor = field(repr=False)
    """``n h w``, where each image is strange."""

    def __str__(self) -> str:
        low, middle, high = self.scores.quantile(torch.tensor([0.0, 0.5, 1.0])).tolist()
        return f"{len(self.scores)} anomaly scores from {low:.4g} to {high:.4g}, median {middle:.4g}"


def reconstruction_anomaly_score(
    reconstruct: Callable[[Tensor], Tensor],
    images: Any,
    *,
    error: ErrorName = "l2",
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
        error: ``"l1"`` or ``"l2"`` difference of each pixel, averaged over channels, or ``"ssim"``, one minus the
            structural similarity around it (Wang et al. 2004, doi 10.1109/TIP.2003.819861).
        reduction: From a map to a score: its ``"mean"``, its ``"max"``, or the mean of its highest hundredth, which
            finds small defects and does not hang on a single pixel.
        batch_size: Images at a time.

    Returns:
        A score for each image and a map of the error.

    Raises:
        UnknownNameError: There is no error or reduction of that name.
        OptionError: ``batch_size`` is below 1.
        ShapeError: The reconstruction has another shape than the images, or they are smaller than the 11 pixels over
            which ``"ssim"`` looks.
        DataError: The reconstruction has NaN or infinite pixels.

    Example:
        >>> images = torch.zeros(2, 1, 8, 8)
        >>> images[1, 0, 0, 0] = 1.0
        >>> result = reconstruction_anomaly_score(torch.zeros_like, images)
        >>> result.scores, result.maps.shape
        (tensor([0.0000, 0.0156]), torch.Size([2, 8, 8]))
    """
    if error not in get_args(ErrorName):
        raise unknown_name("reconstruction error", error, list(get_args(ErrorName)))
    if reduction not in get_args(Reduction):
        raise unknown_name("reduction", reduction, list(get_args(Reduction)))
    if batch_size < 1:
        raise OptionError("a batch size of at least 1", got=batch_size, fix="The default is 256.")
    source = as_source(images)
    device = module_device(reconstruct)
    maps = []
    with evaluating(reconstruct):
        for batch in source.batches(torch.split(torch.arange(len(source)), batch_size)):
            inputs = batch.images.to(device)
            inputs = inputs if inputs.is_floating_point() else inputs.float() / 255
            outputs = reconstruct(inputs)
            if outputs.shape != inputs.shape:
                raise ShapeError(
                    f"reconstructions of the images' shape {tuple(inputs.shape)}",
                    got=tuple(outputs.shape),
                    fix="Make reconstruct return images: decoder(encoder(images)).",
                )
            if not outputs.isfinite().all():
                raise DataError("finite reconstructions", got="NaN or inf", fix="Check the model's weights.")
            maps.append(_error_map(inputs, outputs.float(), error).cpu())
    errors = torch.cat(maps)
    return AnomalyScores(_reduce(errors, reduction), errors)


def _error_map(images: Tensor, reconstructions: Tensor, error: ErrorName) -> Tensor:
    if error == "l1":
        return (images - reconstructions).abs().mean(1)
    if error == "l2":
        return (images - reconstructions).square().mean(1)
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


def _reduce(maps: Tensor, reduction: Reduction) -> Tensor:
    pixels = maps.flatten(1)
    if reduction == "mean":
        return pixels.mean(1)
    if reduction == "max":
        return pixels.amax(1)
    return pixels.topk(max(1, pixels.shape[1] // 100)).values.mean(1)
