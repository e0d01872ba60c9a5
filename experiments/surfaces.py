"""Images of surfaces, split by workpiece, and metrics of anomaly scores on them.

Each workpiece is photographed several times under different lights. A random split puts most workpieces of the flawless
test images into the training images, but none of the defective ones. A method that recognizes a workpiece then seems to
detect defects.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from drawn_defects import draw_defects
from torch import Generator, Tensor, nn

import pretextkit as pk
from pretextkit.functional import AnomalyScores, detection_metrics

__all__ = ["Parts", "Surfaces", "aurocs", "diagnostics", "pieces", "split_by_piece"]

BORDER = 12
"""Width of the border in pixels; it covers about a third of the image."""


class Surfaces(NamedTuple):
    """Images to score, their labels (0 is flawless) and the masks of their defects."""

    images: Tensor
    labels: Tensor
    masks: Tensor


def pieces(images: Tensor, *, alike: float = 0.93) -> Tensor:
    """Number the workpieces in ``n c h w``: images whose 16x16 thumbnails correlate above ``alike`` are linked."""
    small = nn.functional.adaptive_avg_pool2d(images.float(), 16).flatten(1)
    small = nn.functional.normalize(small - small.mean(1, keepdim=True))
    linked, numbers = small @ small.T > alike, torch.arange(len(images))
    while True:
        lowest = torch.where(linked, numbers, len(numbers)).amin(1)
        if torch.equal(lowest, numbers):
            return numbers
        numbers = lowest


def _split_off(images: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Split off complete workpieces, at most ``count`` images in total; return the rest and the split-off images."""
    _, rows, sizes = torch.unique(pieces(images), return_inverse=True, return_counts=True)
    order = torch.randperm(len(sizes), generator=Generator().manual_seed(0))
    taken = torch.zeros(len(sizes), dtype=torch.bool)
    taken[order] = sizes[order].cumsum(0) <= count
    return images[~taken[rows]], images[taken[rows]]


def _with_flawless(flawless: Tensor, defective: Tensor, labels: Tensor, masks: Tensor) -> Surfaces:
    """Concatenate flawless and defective images."""
    none = torch.zeros(len(flawless), *masks.shape[1:], dtype=torch.bool)
    labels = torch.cat([torch.zeros(len(flawless), dtype=torch.int64), labels])
    return Surfaces(torch.cat([flawless, defective]), labels, torch.cat([none, masks]))


class Parts(NamedTuple):
    """The split by workpiece, and the original split of the file."""

    train: Tensor
    drawn: Surfaces
    """Synthetic defects, for choosing methods."""
    test: Surfaces
    """Real defects."""
    given_train: Tensor
    given_test: Surfaces


def _read(path: str) -> tuple[pk.data.ImageData, Tensor]:
    """Read the images of an ``.npz`` file and the masks of its test images."""
    return pk.data.load(path), torch.from_numpy(np.load(path)["test_masks"]) > 0


def _synthetic() -> tuple[pk.data.ImageData, Tensor]:
    """Draw 70 noise textures, ten of them with defects, to try the experiment."""
    generator = Generator().manual_seed(0)
    coarse = torch.rand(70, 1, 24, 24, generator=generator)
    images = (nn.functional.interpolate(coarse, 96, mode="bicubic") * 120 + 60).clamp(0, 255).to(torch.uint8)
    defective, drawn = draw_defects(images[:10], generator)
    masks = torch.cat([drawn, torch.zeros(10, 96, 96, dtype=torch.bool)])
    labels = torch.cat([torch.arange(10) % 2 + 1, torch.zeros(10, dtype=torch.int64)])
    flawless = (images[20:], torch.zeros(50, dtype=torch.int64))
    test = (torch.cat([defective, images[10:20]]), labels)
    return pk.data.ImageData("synthetic", *flawless, *test, ("flawless", "odd", "even")), masks


def split_by_piece(path: str) -> tuple[Parts, tuple[str, ...]]:
    """Split the flawless images by workpiece, with as many test images as the file has; return the defect names too.

    Args:
        path: An ``.npz`` file, or ``synthetic``.
    """
    data, masks = _synthetic() if path == "synthetic" else _read(path)
    anomalous = data.test_labels > 0
    defective = (data.test_images[anomalous], data.test_labels[anomalous], masks[anomalous])
    given = data.test_images[~anomalous]
    rest, flawless = _split_off(torch.cat([data.train_images, given]), len(given))
    train, held_out = _split_off(rest, len(rest) // 5)
    drawn, drawn_masks = draw_defects(held_out[1::2].repeat(2, 1, 1, 1), Generator().manual_seed(0))
    parts = Parts(
        train=train,
        drawn=_with_flawless(held_out[::2], drawn, torch.arange(len(drawn)) % 5 + 1, drawn_masks),
        test=_with_flawless(flawless, *defective),
        given_train=data.train_images,
        given_test=_with_flawless(given, *defective),
    )
    return parts, tuple(data.class_names[1:])


def aurocs(found: AnomalyScores, surfaces: Surfaces) -> dict[str, float | None]:
    """Return the AUROC of all defects, of each kind, and of every sixteenth pixel."""
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


def diagnostics(found: AnomalyScores, surfaces: Surfaces) -> dict[str, float | None]:
    """Return rank correlations of the scores of flawless images, and the positions of the map maxima."""
    flawless = surfaces.labels == 0
    pixels = surfaces.images[flawless].float().flatten(1)

    def rank_correlation(values: Tensor) -> float:
        pair = torch.stack([found.scores[flawless], values]).argsort(1).argsort(1)
        return torch.corrcoef(pair.double())[0, 1].item()

    measured: dict[str, float | None] = {
        "brightness": rank_correlation(pixels.mean(1)),
        "contrast": rank_correlation(pixels.std(1)),
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
