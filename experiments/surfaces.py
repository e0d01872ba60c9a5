"""Pictures of surfaces, divided so that no piece is in two parts, and what scores of them are worth.

One piece is photographed many times, under other lights. A random division shows most pieces of the flawless test
pictures in training, too, and none of the defective ones: whoever knows a piece again then seems to find defects.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from drawn_defects import draw_defects
from torch import Generator, Tensor, nn

import pretextkit as pk
from pretextkit.functional import AnomalyScores, detection_metrics

__all__ = ["Parts", "Surfaces", "areas", "causes", "divide", "pieces"]

BORDER = 12
"""Pixels from the edge: a third of the picture."""


class Surfaces(NamedTuple):
    """Pictures to score, flawless where the label is 0, and the masks of their defects."""

    images: Tensor
    labels: Tensor
    masks: Tensor


def pieces(images: Tensor, *, alike: float = 0.93) -> Tensor:
    """Number the pieces that ``n c h w`` show: pictures whose 16x16 thumbnails correlate, directly or by others."""
    small = nn.functional.adaptive_avg_pool2d(images.float(), 16).flatten(1)
    small = nn.functional.normalize(small - small.mean(1, keepdim=True))
    linked, numbers = small @ small.T > alike, torch.arange(len(images))
    while True:
        lowest = torch.where(linked, numbers, len(numbers)).amin(1)
        if torch.equal(lowest, numbers):
            return numbers
        numbers = lowest


def _without(images: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Take whole pieces away, at most ``count`` pictures of them; give the others and these."""
    _, rows, sizes = torch.unique(pieces(images), return_inverse=True, return_counts=True)
    order = torch.randperm(len(sizes), generator=Generator().manual_seed(0))
    taken = torch.zeros(len(sizes), dtype=torch.bool)
    taken[order] = sizes[order].cumsum(0) <= count
    return images[~taken[rows]], images[taken[rows]]


def _beside(flawless: Tensor, defective: Tensor, labels: Tensor, masks: Tensor) -> Surfaces:
    """Put flawless pictures before defective ones."""
    none = torch.zeros(len(flawless), *masks.shape[1:], dtype=torch.bool)
    labels = torch.cat([torch.zeros(len(flawless), dtype=torch.int64), labels])
    return Surfaces(torch.cat([flawless, defective]), labels, torch.cat([none, masks]))


class Parts(NamedTuple):
    """What is trained on, what methods are chosen by, and what they are measured on; and the division of the file."""

    train: Tensor
    drawn: Surfaces
    test: Surfaces
    given_train: Tensor
    given_test: Surfaces


def divide(path: str) -> tuple[Parts, tuple[str, ...]]:
    """Read the ``.npz`` file and divide flawless pictures anew, with as many for the test; give the defects' names."""
    data = pk.data.load(path)
    masks = torch.from_numpy(np.load(path)["test_masks"]) > 0
    strange = data.test_labels > 0
    defective = (data.test_images[strange], data.test_labels[strange], masks[strange])
    given = data.test_images[~strange]
    rest, flawless = _without(torch.cat([data.train_images, given]), len(given))
    train, held_out = _without(rest, len(rest) // 5)
    drawn, drawn_masks = draw_defects(held_out[1::2].repeat(2, 1, 1, 1), Generator().manual_seed(0))
    parts = Parts(
        train=train,
        drawn=_beside(held_out[::2], drawn, torch.arange(len(drawn)) % 5 + 1, drawn_masks),
        test=_beside(flawless, *defective),
        given_train=data.train_images,
        given_test=_beside(given, *defective),
    )
    return parts, tuple(data.class_names[1:])


def areas(found: AnomalyScores, surfaces: Surfaces) -> dict[str, float | None]:
    """Measure the areas under the curves: of all defects, of each kind, and of every sixteenth pixel."""
    normal, kinds = found.scores[surfaces.labels == 0], range(1, int(surfaces.labels.max()) + 1)
    measured: dict[str, float | None] = {
        str(kind): detection_metrics(normal, found.scores[surfaces.labels == kind]).auroc for kind in kinds
    }
    measured["all"] = detection_metrics(normal, found.scores[surfaces.labels > 0]).auroc
    measured["pixels"] = None
    if found.maps is not None:
        pixels, masks = found.maps[:, ::4, ::4], surfaces.masks[:, ::4, ::4]
        measured["pixels"] = detection_metrics(pixels[~masks], pixels[masks]).auroc
    return measured


def causes(found: AnomalyScores, surfaces: Surfaces) -> dict[str, float | None]:
    """Measure what scores of flawless pictures follow, by rank correlation, and where maps are highest."""
    flawless = surfaces.labels == 0
    pixels = surfaces.images[flawless].float().flatten(1)

    def following(values: Tensor) -> float:
        pair = torch.stack([found.scores[flawless], values]).argsort(1).argsort(1)
        return torch.corrcoef(pair.double())[0, 1].item()

    measured: dict[str, float | None] = {
        "brightness": following(pixels.mean(1)),
        "contrast": following(pixels.std(1)),
        "border": None,
        "hit": None,
    }
    if found.maps is not None:
        highest = found.maps.flatten(1).argmax(1, keepdim=True)
        inner = torch.zeros_like(found.maps[:1], dtype=torch.bool)
        inner[:, BORDER:-BORDER, BORDER:-BORDER] = True
        measured["border"] = (~inner.flatten()[highest[flawless]]).float().mean().item()
        measured["hit"] = surfaces.masks.flatten(1).gather(1, highest)[~flawless].float().mean().item()
    return measured
