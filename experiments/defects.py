"""Detect defects on surfaces after training on flawless ones only: AUROC of images and of pixels.

    python experiments/defects.py --data magnetic-tile.npz --seeds 0 1 2

The ``.npz`` file holds ``train_images`` of flawless surfaces, and ``test_images``, ``test_labels`` (0 is flawless) and
``test_masks``, above 0 at a defect. ``--data synthetic`` draws textures, to try the script. Flawless images are split
again, by workpiece; see ``surfaces.py``. A further table compares both splits.

Methods and options are chosen by the column ``synthetic``: the AUROC for defects drawn on held-out flawless workpieces.
Nothing is chosen by looking at real defects. Repeat the command to resume.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from _report import Rows, write_report
from cut_paste import CutPasteClassification, CutPasteSegmentation
from drawn_defects import box_blur
from surfaces import Parts, aurocs, diagnostics, split_by_piece
from torch import Generator, Tensor, nn

import pretextkit as pk
from pretextkit.functional import (
    AnomalyScores,
    TopFraction,
    calibrate,
    mahalanobis_anomaly_score,
    neighbor_anomaly_score,
    patch_anomaly_score,
    pretrain,
    reconstruction_anomaly_score,
    rotation_anomaly_score,
)
from pretextkit.plots import segmentation
from pretextkit.views import cut_patches, random_horizontal_flip

Score = Callable[[Tensor], AnomalyScores]
CROP = 64
"""Side of the training crops: four times as many steps in the same time, and defects are local."""
THUMBNAILS = "neighbors, 16x16 pixels"
PUBLISHED = {"DifferNet, with ImageNet": 97.7}
"""AUROC of images in percent, from Rudolph et al. 2021 (arXiv 2008.12577)."""


def normalize_brightness(images: Tensor) -> Tensor:
    """Divide each pixel by the mean brightness around it, which removes light and exposure; 0.5 is the local mean."""
    pixels = images.float() / 255 + 0.02  # keeps almost black pixels from becoming noise
    return (pixels / box_blur(pixels, 31) / 2).clamp(0, 1)


def random_crop(images: Tensor, generator: Generator) -> Tensor:
    height, width = images.shape[2:]
    reach = CROP // 2  # beyond the edges: borders, with most false alarms, must be as frequent as the rest
    top = torch.randint(-reach, height - reach, images.shape[:1], generator=generator).clamp(0, height - CROP)
    left = torch.randint(-reach, width - reach, images.shape[:1], generator=generator).clamp(0, width - CROP)
    return random_horizontal_flip(cut_patches(images, top, left, CROP), generator=generator)


def backbone(train: Tensor, seed: int) -> pk.SpatialBackbone:
    torch.manual_seed(seed)
    network = pk.models.SmallCNN(in_channels=train.shape[1])
    network.normalization.measure(train)
    return network


def untrained(train: Tensor, seed: int) -> dict[str, Score]:
    """Return the methods that learn nothing."""
    thumbnails = nn.Sequential(nn.AdaptiveAvgPool2d(16), nn.Flatten())
    normalized = normalize_brightness(train)
    plain, network = backbone(train, seed), backbone(normalized, seed)

    def patches(backbone: pk.SpatialBackbone, reference: Tensor, images: Tensor) -> AnomalyScores:
        return patch_anomaly_score(backbone, reference, images, layers=["stage3"], memory_bank_size=2048)

    return {
        THUMBNAILS: lambda x: neighbor_anomaly_score(thumbnails, train, x),
        "patches, random init": lambda x: patches(plain, train, x),
        "patches, random init, normalized brightness": lambda x: patches(network, normalized, normalize_brightness(x)),
    }


def scale_to_one(images: Tensor) -> Tensor:
    return images.float() / 255


TASKS: dict[str, tuple[Callable[[pk.SpatialBackbone], Any], Callable[[Tensor], Tensor]]] = {
    "CutPaste, segmentation": (CutPasteSegmentation, normalize_brightness),
    "CutPaste, segmentation, raw brightness": (CutPasteSegmentation, scale_to_one),
    "CutPaste, classification": (CutPasteClassification, normalize_brightness),
    "rotation": (pk.tasks.Rotation, normalize_brightness),
    "autoencoder": (partial(pk.tasks.Autoencoder, bottleneck=8), normalize_brightness),
    "denoising": (partial(pk.tasks.Denoising, bottleneck=8), normalize_brightness),
}
"""Constructor of each task, and preprocessing of its images."""


def trained(name: str, train: Tensor, seed: int, steps: int) -> tuple[float, dict[str, Score]]:
    """Train a pretext task; return the seconds and the methods that score with it."""
    make, prepare = TASKS[name]
    reference = prepare(train)
    task = make(backbone(reference, seed))
    size = 8 if name == "rotation" else 32  # the same number of views for every task
    run = pretrain(task, reference, steps=steps, batch_size=size, seed=seed, augment=random_crop, progress=False)
    print(f"  {name}: {run}", flush=True)
    return run.seconds, methods_of(name, task, reference, prepare)


def methods_of(name: str, task: Any, reference: Tensor, prepare: Callable[[Tensor], Tensor]) -> dict[str, Score]:
    """Return the anomaly scores that a trained task supports."""

    def reconstruction(images: Tensor, error: Literal["l2", "ssim"]) -> AnomalyScores:
        return reconstruction_anomaly_score(task.reconstruct, prepare(images), error=error, reduction=TopFraction(0.01))

    def mahalanobis(images: Tensor) -> AnomalyScores:
        return mahalanobis_anomaly_score(task.backbone, reference, prepare(images), layers="all")

    if isinstance(task, (CutPasteClassification, CutPasteSegmentation)):
        return {name: lambda x: task.scores(prepare(x)), f"Mahalanobis, {name}": mahalanobis}
    if isinstance(task, pk.tasks.Rotation):
        return {name: lambda x: rotation_anomaly_score(task, prepare(x)), f"Mahalanobis, {name}": mahalanobis}
    return {f"{name}, l2": lambda x: reconstruction(x, "l2"), f"{name}, ssim": lambda x: reconstruction(x, "ssim")}


def save_panel(scores: Score, parts: Parts, path: Path) -> None:
    """Plot the image with the median score of each kind, and the pixels above nearly all flawless ones."""
    found, flawless = scores(parts.test.images), scores(parts.drawn.images[parts.drawn.labels == 0])
    if found.maps is None or flawless.maps is None:
        return
    kinds = [(parts.test.labels == kind).nonzero()[:, 0] for kind in range(1, int(parts.test.labels.max()) + 1)]
    rows = torch.stack([kind[found.scores[kind].argsort()[len(kind) // 2]] for kind in kinds])
    threshold = calibrate(flawless.maps[:, ::4, ::4].flatten(), false_positive_rate=0.01).threshold
    images, masks = parts.test.images[rows], parts.test.masks[rows].long()
    shown = {"above 99 % of flawless pixels": (found.maps[rows] > threshold).long()}
    segmentation(images, masks, shown, ["flawless", "defect"], count=len(rows)).savefig(path, dpi=70)


def measure(name: str, seed: int, parts: Parts, options: argparse.Namespace) -> dict[str, Any]:
    """Measure all scores of a task on synthetic and on real defects."""
    if name == "untrained":
        seconds, scores = 0.0, untrained(parts.train, seed)
    else:
        seconds, scores = trained(name, parts.train, seed, options.steps)
    rows: dict[str, Any] = {}
    for row, score in scores.items():
        found = score(parts.test.images)
        synthetic, real = aurocs(score(parts.drawn.images), parts.drawn), aurocs(found, parts.test)
        rows[row] = {"synthetic": synthetic["all"], **real, **diagnostics(found, parts.test), "seconds": seconds}
        print(f"  {row:28} synthetic {synthetic['all']:.1%}, real {real['all']:.1%}", flush=True)
    if name == "untrained":  # one fast method is enough to compare the splits
        score = untrained(parts.given_train, seed)[THUMBNAILS]
        rows[THUMBNAILS]["given"] = aurocs(score(parts.given_test.images), parts.given_test)["all"]
    if name == "CutPaste, segmentation":
        save_panel(scores[name], parts, options.out / "defects.png")
    return rows


def tables_of(seeds: Sequence[dict[str, Any]], names: Sequence[str]) -> dict[str, Any]:
    """Arrange the measurements of every seed by method."""

    def cells(method: str, keys: Sequence[str]) -> list[Any]:
        return [None if seeds[0][method][key] is None else [rows[method][key] for rows in seeds] for key in keys]

    kinds = [str(kind) for kind in range(1, len(names) + 1)]
    keys = ["synthetic", "all", *kinds, "pixels"]
    seconds = {method: round(statistics.mean(rows[method]["seconds"] for rows in seeds)) for method in seeds[0]}
    on_both = [method for method, row in seeds[0].items() if "given" in row]
    return {
        "AUROC of images, by kind of defect, and of pixels": {
            "columns": ["synthetic", "all real", *names, "pixels", "seconds"],
            "rows": {method: [*cells(method, keys), seconds[method]] for method in seeds[0]},
        },
        "Rank correlation of flawless scores, and position of map maxima": {
            "columns": [
                "brightness",
                "contrast",
                "maximum at the border, flawless",
                "maximum on the defect, defective",
            ],
            "rows": {method: cells(method, ["brightness", "contrast", "border", "hit"]) for method in seeds[0]},
        },
        "AUROC of images by split": {
            "columns": ["random split, as given", "split by workpiece"],
            "rows": {method: cells(method, ["given", "all"]) for method in on_both},
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="magnetic-tile.npz")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--steps", type=int, default=100, help="training steps of each pretext task, with 32 crops")
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--out", type=Path, default=Path("out/defects"))
    options = parser.parse_args()
    parts, names = split_by_piece(options.data)
    settings = {"steps": options.steps}
    sizes = {part: len(getattr(parts, part).images) for part in ("drawn", "test", "given_test")}
    sizes |= {part: len(getattr(parts, part)) for part in ("train", "given_train")}
    finished = Rows(options.out / "rows", settings)
    seeds = []
    for seed in options.seeds:
        rows: dict[str, Any] = {}
        for name in ("untrained", *options.tasks):
            rows |= finished.measure(f"{seed} {name}", partial(measure, name, seed, parts, options))
        seeds.append(rows)
    write_report(
        options.out / "defects.json",
        Path(options.data).stem,
        images=sizes,
        seeds=options.seeds,
        settings=settings,
        published=PUBLISHED,
        tables=tables_of(seeds, names),
    )


if __name__ == "__main__":
    main()
