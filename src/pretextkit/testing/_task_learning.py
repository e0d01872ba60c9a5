"""Checks of a short training on toy images: learning, dependence on the targets, collapse, and shortcuts."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from pretextkit.contracts import Recommended
from pretextkit.testing._cases import TaskCase, generator, image_tensors, map_tensors, score, tensors
from pretextkit.testing._runner import require
from pretextkit.testing._toys import noise_images

__all__ = ["CHECKS"]

MIN_SPREAD = 0.04
"""Least spread of features: correct tasks give TinyBackbone 0.07 to 0.5, collapsed tasks at most 0.03."""


def learns_on_unseen_images(case: TaskCase) -> None:
    """After a short training the loss on unseen images is lower than before."""
    trained = case.trained
    gain = _standard_errors(trained.before - trained.after)
    before, after = float(trained.before.mean()), float(trained.after.mean())
    require(gain > 4, f"The loss on unseen images is {before:.4g} before training and {after:.4g} after training.")


def recommended_settings_are_usable(case: TaskCase) -> None:
    """The recommended settings are a Recommended, whose learning rate keeps the loss finite and bounded."""
    task = case.task()
    settings: Any = task.recommended
    require(
        isinstance(settings, Recommended),
        f"recommended is a {type(settings).__name__}; write recommended = pretextkit.Recommended(...) in the class.",
    )
    losses = [float(output.loss.detach()) for output in case.train(task, 6, settings.learning_rate)]
    limit = 10 * (1 + abs(losses[0]))
    require(
        all(abs(loss) < limit for loss in losses),  # also false for NaN
        f"At the recommended learning rate {settings.learning_rate:g}, the loss goes from {losses[0]:.4g} to "
        f"{losses[-1]:.4g} in {len(losses) - 1} steps; recommend a lower one.",
    )


def loss_depends_on_targets(case: TaskCase) -> None:
    """After training, shuffling one field of the views among the images raises the loss.

    With random labels, or if the loss ignores the images, the loss can fall to chance level but not below.
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
        "Shuffling any field of the views among the images does not raise the loss: the loss does not depend on the "
        "match between images and targets.",
    )


def accuracy_rises(case: TaskCase) -> None:
    """Training raises the mean of all metrics named accuracy, on unseen images."""
    trained = case.trained
    names = [name for name in trained.metrics_after if "accuracy" in name]
    if names:
        before, after = (
            float(torch.stack([metrics[name] for name in names]).mean())
            for metrics in (trained.metrics_before, trained.metrics_after)
        )
        require(
            after > before + 0.02, f"Accuracy on unseen images is {before:.3f} before training and {after:.3f} after."
        )


def features_do_not_collapse(case: TaskCase) -> None:
    """After training, the unit-length features of different images differ."""
    backbone = case.trained.task.backbone.eval()
    with torch.no_grad():
        directions = F.normalize(backbone(case.images(128, seed=7)).float(), dim=1)
    case.trained.task.train()
    spread = float(directions.var(0).sum().sqrt())
    require(
        spread > MIN_SPREAD,
        f"The features of different images have a spread of {spread:.3f}, of at most 1: they collapsed.",
    )


def borders_hold_no_shortcut(case: TaskCase) -> None:
    """On noise images, a linear model of the border pixels predicts an integer target no better than chance.

    Padding, interpolated corners and overlapping patches let a network solve the task without the image content.
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
        f"A linear model of the border pixels of noise has an accuracy of {accuracy:.0%}, where chance is "
        f"{chance:.0%}: the borders of the views give the target away.",
    )


def _standard_errors(differences: Tensor) -> float:
    """Divide the mean by its standard error; negligible differences count as 0."""
    mean, error = float(differences.mean()), float(differences.std()) / math.sqrt(len(differences))
    return mean / (error + 1e-4)


def _shuffle(batch: Any, field: int) -> Any:
    """Permute the rows of one tensor of the batch."""
    index = iter(range(len(tensors(batch))))

    def move(tensor: Tensor) -> Tensor:
        return tensor[torch.randperm(len(tensor), generator=generator(11))] if next(index) == field else tensor

    return map_tensors(move, batch)


def _noise_views(case: TaskCase, task: Any, seed: int) -> Any:
    images = noise_images(64, size=case.image_size, channels=case.channels, generator=generator(500 + seed))
    return case.views(task, images, seed=seed)


def _borders(batch: Any, rows: int) -> Tensor:
    """Gather for each row its border pixels, their squares, and the overlap of its views: ``r n``."""
    gray = [image.mean(1) for image in image_tensors(batch) if len(image) == rows]
    around = [torch.cat((g[:, 0], g[:, -1], g[:, :, 0], g[:, :, -1]), 1) for g in gray]
    features = [part for border in around for part in (border, (border - border.mean()).square())]
    features += [_overlap(one, other) for one, other in pairwise(gray) if one.shape == other.shape]
    return torch.cat(features, 1).double()


def _overlap(one: Tensor, other: Tensor) -> Tensor:
    """Cross-correlate two views: shared pixels make a peak at their offset."""
    size = [2 * side for side in one.shape[1:]]
    spectra = [torch.fft.rfft2(view - view.mean((1, 2), keepdim=True), size) for view in (one, other)]
    correlation = torch.fft.fftshift(torch.fft.irfft2(spectra[0] * spectra[1].conj(), size), dim=(1, 2))
    return F.adaptive_max_pool2d(correlation, 7).flatten(1)


def _linear_accuracy(x: Tensor, y: Tensor, x_test: Tensor, y_test: Tensor) -> float:
    """Fit a ridge classifier and return its accuracy on the test rows."""
    mean, std = x.mean(0), x.std(0).clamp(min=1e-6)
    x, x_test = (torch.cat(((a - mean) / std, torch.ones(len(a), 1).double()), 1) for a in (x, x_test))
    gram = x.T @ x + 0.1 * len(x) * torch.eye(x.shape[1]).double()
    weights = torch.linalg.solve(gram, x.T @ F.one_hot(y).double())
    return float(((x_test @ weights).argmax(1) == y_test).double().mean())


CHECKS = (
    learns_on_unseen_images,
    recommended_settings_are_usable,
    loss_depends_on_targets,
    accuracy_rises,
    features_do_not_collapse,
    borders_hold_no_shortcut,
)
