"""Checks of a short training on toy images: that the task learns, from the right cause, and without a shortcut."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from pretextkit.testing._cases import TaskCase, generator, image_tensors, map_tensors, score, tensors
from pretextkit.testing._runner import require
from pretextkit.testing._toys import noise_images

__all__ = ["CHECKS"]

MIN_SPREAD = 0.04
"""Honest tasks leave TinyBackbone with 0.07 to 0.5, collapsing ones with 0.03 or less."""


def learns_on_unseen_images(case: TaskCase) -> None:
    """After a short training the loss on unseen images is lower than before."""
    trained = case.trained
    gain = _standard_errors(trained.before - trained.after)
    before, after = float(trained.before.mean()), float(trained.after.mean())
    require(gain > 4, f"The loss on unseen images was {before:.4g} before training and is {after:.4g} after it.")


def prefers_its_own_targets(case: TaskCase) -> None:
    """After training, shuffling one field of the views among the images raises the loss.

    Random labels, or a loss that ignores what the backbone sees, can fall to chance but not tell whose target is whose.
    """
    trained = case.trained
    batches = case.unseen(trained.task)
    gains = []
    for field, tensor in enumerate(tensors(batches[0])):
        if tensor.ndim == 0:
            continue
        shuffled = [score(trained.task, _shuffle(batch, field)).loss for batch in batches]
        gains.append(_standard_errors(torch.stack(shuffled) - trained.after))
    require(
        bool(gains) and max(gains) > 4,
        "Views with one field shuffled among the images score as well: the loss does not depend on which target "
        "belongs to which image.",
    )


def accuracy_rises(case: TaskCase) -> None:
    """After training, the metrics named accuracy are higher on unseen images, on average."""
    trained = case.trained
    names = [name for name in trained.metrics_after if "accuracy" in name]
    if names:
        before, after = (
            float(torch.stack([metrics[name] for name in names]).mean())
            for metrics in (trained.metrics_before, trained.metrics_after)
        )
        require(
            after > before + 0.02, f"Accuracy on unseen images was {before:.3f} before training, {after:.3f} after."
        )


def features_do_not_collapse(case: TaskCase) -> None:
    """After training, features differ between images: they spread over more than a point of the sphere."""
    backbone = case.trained.task.backbone.eval()
    with torch.no_grad():
        directions = F.normalize(backbone(case.images(128, seed=7)).float(), dim=1)
    case.trained.task.train()
    spread = float(directions.var(0).sum().sqrt())
    require(spread > MIN_SPREAD, f"Features of different images spread by {spread:.3f}, of at most 1: they collapse.")


def borders_tell_nothing(case: TaskCase) -> None:
    """On images of noise, a linear model on the views' border pixels guesses an integer target no better than chance.

    Padding, interpolated corners and overlapping patches would let a network solve the task without looking.
    """
    task = case.task()
    batches = [_noise_views(case, task, seed) for seed in range(24)]
    target = next((i for i, t in enumerate(tensors(batches[0])) if t.ndim == 1 and t.dtype == torch.int64), None)
    if target is None:
        return
    labels = torch.stack([tensors(batch)[target] for batch in batches])
    features = torch.stack([_borders(batch, labels.shape[1]) for batch in batches])
    half = len(batches) // 2
    accuracy = _linear_accuracy(
        features[:half].flatten(0, 1), labels[:half].flatten(), features[half:].flatten(0, 1), labels[half:].flatten()
    )
    unseen = labels[half:].flatten()
    chance = float(unseen.bincount().max()) / len(unseen)
    limit = chance + 4 * math.sqrt(chance * (1 - chance) / len(unseen))
    require(
        accuracy <= limit,
        f"A linear model on the border pixels of noise finds {accuracy:.0%} of unseen targets, where chance is "
        f"{chance:.0%}: the views show the answer at their edges.",
    )


def _standard_errors(differences: Tensor) -> float:
    """Divide the mean by its standard error; differences that are too small to matter count as none."""
    mean, error = float(differences.mean()), float(differences.std()) / math.sqrt(len(differences))
    return mean / (error + 1e-4)


def _shuffle(batch: Any, field: int) -> Any:
    """Move the rows of one of the batch's tensors among themselves."""
    index = iter(range(len(tensors(batch))))

    def move(tensor: Tensor) -> Tensor:
        return tensor[torch.randperm(len(tensor), generator=generator(11))] if next(index) == field else tensor

    return map_tensors(move, batch)


def _noise_views(case: TaskCase, task: Any, seed: int) -> Any:
    images = noise_images(64, size=case.image_size, channels=case.channels, generator=generator(500 + seed))
    return case.views(task, images, seed=seed)


def _borders(batch: Any, rows: int) -> Tensor:
    """Gather each row's border pixels, their squares, and where its views show the same pixels: ``r n``."""
    gray = [image.mean(1) for image in image_tensors(batch) if len(image) == rows]
    around = [torch.cat((g[:, 0], g[:, -1], g[:, :, 0], g[:, :, -1]), 1) for g in gray]
    features = [part for border in around for part in (border, (border - border.mean()).square())]
    features += [_overlap(one, other) for one, other in pairwise(gray) if one.shape == other.shape]
    return torch.cat(features, 1).double()


def _overlap(one: Tensor, other: Tensor) -> Tensor:
    """Cross-correlate two views: pixels that both show make a peak where their offset is."""
    size = [2 * side for side in one.shape[1:]]
    spectra = [torch.fft.rfft2(view - view.mean((1, 2), keepdim=True), size) for view in (one, other)]
    correlation = torch.fft.fftshift(torch.fft.irfft2(spectra[0] * spectra[1].conj(), size), dim=(1, 2))
    return F.adaptive_max_pool2d(correlation, 7).flatten(1)


def _linear_accuracy(x: Tensor, y: Tensor, x_test: Tensor, y_test: Tensor) -> float:
    """Fit a ridge classifier and count what it gets right on the test rows."""
    mean, std = x.mean(0), x.std(0).clamp(min=1e-6)
    x, x_test = (torch.cat(((a - mean) / std, torch.ones(len(a), 1).double()), 1) for a in (x, x_test))
    gram = x.T @ x + 0.1 * len(x) * torch.eye(x.shape[1]).double()
    weights = torch.linalg.solve(gram, x.T @ F.one_hot(y).double())
    return float(((x_test @ weights).argmax(1) == y_test).double().mean())


CHECKS = (
    learns_on_unseen_images,
    prefers_its_own_targets,
    accuracy_rises,
    features_do_not_collapse,
    borders_tell_nothing,
)
