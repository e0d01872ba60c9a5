"""Find defects on surfaces, having seen flawless ones only: the area under the ROC curve of images and of pixels.

    python experiments/defects.py --data magnetic-tile.npz --seeds 0 1 2

The ``.npz`` file holds ``train_images`` of flawless surfaces, and ``test_images``, ``test_labels`` (0 is flawless) and
``test_masks``, above 0 where a defect is. Flawless pictures are divided anew, so that no piece is in two parts; see
``surfaces.py``. A second table has the methods that learn nothing on both divisions.

Methods and options are chosen by ``drawn``: the area for defects drawn on flawless pieces that are held out. Nothing is
chosen by looking at true defects. What is finished is not done again by the same command.
"""

from __future__ import annotations

import argparse
import json
import platform
import shlex
import statistics
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from cut_paste import PastedWhere, PastedWhether
from drawn_defects import box_blur
from surfaces import Parts, areas, causes, divide
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
"""Side of what a task is trained on: four times as many steps in the same time, and a defect is local."""
THUMBNAILS = "neighbors, 16x16 pixels"
PUBLISHED = {"DifferNet, with ImageNet": 97.7}
"""Of images, from Rudolph et al. 2021 (arXiv 2008.12577)."""


def evened(images: Tensor) -> Tensor:
    """Divide by the brightness around each pixel, which takes light and exposure away; 0.5 is as bright as around."""
    pixels = images.float() / 255 + 0.02  # what is almost black stays so, and does not become noise
    return (pixels / box_blur(pixels, 31) / 2).clamp(0, 1)


def random_crop(images: Tensor, generator: Generator) -> Tensor:
    height, width = images.shape[2:]
    reach = CROP // 2  # beyond the edges, so that borders, where most false alarms are, are seen as often as the rest
    top = torch.randint(-reach, height - reach, images.shape[:1], generator=generator).clamp(0, height - CROP)
    left = torch.randint(-reach, width - reach, images.shape[:1], generator=generator).clamp(0, width - CROP)
    return random_horizontal_flip(cut_patches(images, top, left, CROP), generator=generator)


def backbone(train: Tensor, seed: int) -> pk.SpatialBackbone:
    torch.manual_seed(seed)
    network = pk.models.SmallCNN(in_channels=train.shape[1])
    network.normalization.measure(train)
    return network


def untrained(train: Tensor, seed: int) -> dict[str, Score]:
    """Give the scores of what learns nothing."""
    thumbnails = nn.Sequential(nn.AdaptiveAvgPool2d(16), nn.Flatten())
    even = evened(train)
    plain, network = backbone(train, seed), backbone(even, seed)

    def patches(backbone: pk.SpatialBackbone, known: Tensor, images: Tensor) -> AnomalyScores:
        return patch_anomaly_score(backbone, known, images, layers=["stage3"], memory_bank_size=2048)

    return {
        THUMBNAILS: lambda x: neighbor_anomaly_score(thumbnails, train, x),
        "patches, untrained": lambda x: patches(plain, train, x),
        "patches, untrained, evened": lambda x: patches(network, even, evened(x)),
    }


def as_photographed(images: Tensor) -> Tensor:
    return images.float() / 255


TASKS: dict[str, tuple[Callable[[pk.SpatialBackbone], Any], Callable[[Tensor], Tensor]]] = {
    "pasted, where": (PastedWhere, evened),
    "pasted, where, not evened": (PastedWhere, as_photographed),
    "pasted, whether": (PastedWhether, evened),
    "rotation": (pk.tasks.Rotation, evened),
    "autoencoder": (partial(pk.tasks.Autoencoder, bottleneck=8), evened),
    "denoising": (partial(pk.tasks.Denoising, bottleneck=8), evened),
}
"""How each task is made, and pictures prepared for it."""


def trained(name: str, train: Tensor, seed: int, steps: int) -> tuple[float, dict[str, Score]]:
    """Train a pretext task, and give the seconds that it took and its scores."""
    make, prepare = TASKS[name]
    known = prepare(train)
    task = make(backbone(known, seed))
    size = 8 if name == "rotation" else 32  # as many views for every task
    run = pretrain(task, known, steps=steps, batch_size=size, seed=seed, augment=random_crop, progress=False)
    print(f"  {name}: {run}", flush=True)
    return run.seconds, scores_of(name, task, known, prepare)


def scores_of(name: str, task: Any, known: Tensor, prepare: Callable[[Tensor], Tensor]) -> dict[str, Score]:
    """Give all that a trained task can be scored by."""

    def rebuilt(images: Tensor, error: Literal["l2", "ssim"]) -> AnomalyScores:
        return reconstruction_anomaly_score(task.reconstruct, prepare(images), error=error, reduction=TopFraction(0.01))

    def distant(images: Tensor) -> AnomalyScores:
        return mahalanobis_anomaly_score(task.backbone, known, prepare(images), layers="all")

    if isinstance(task, (PastedWhether, PastedWhere)):
        return {name: lambda x: task.scores(prepare(x)), f"Mahalanobis, {name}": distant}
    if isinstance(task, pk.tasks.Rotation):
        return {name: lambda x: rotation_anomaly_score(task, prepare(x)), f"Mahalanobis, {name}": distant}
    return {f"{name}, l2": lambda x: rebuilt(x, "l2"), f"{name}, ssim": lambda x: rebuilt(x, "ssim")}


def panel(scores: Score, parts: Parts, path: Path) -> None:
    """Draw the picture of middle score of each kind, and where the map is above nearly all flawless pixels."""
    found, flawless = scores(parts.test.images), scores(parts.drawn.images[parts.drawn.labels == 0])
    if found.maps is None or flawless.maps is None:
        return
    kinds = [(parts.test.labels == kind).nonzero()[:, 0] for kind in range(1, int(parts.test.labels.max()) + 1)]
    rows = torch.stack([kind[found.scores[kind].argsort()[len(kind) // 2]] for kind in kinds])
    threshold = calibrate(flawless.maps[:, ::4, ::4].flatten(), false_positive_rate=0.01).threshold
    images, masks = parts.test.images[rows], parts.test.masks[rows].long()
    shown = {"above 99 % of flawless pixels": (found.maps[rows] > threshold).long()}
    segmentation(images, masks, shown, ["flawless", "defect"], count=len(rows)).savefig(path, dpi=70)


def measured(name: str, seed: int, parts: Parts, options: argparse.Namespace) -> dict[str, Any]:
    """Measure all scores of a task on drawn and on true defects; what is untrained on the division as given, too."""
    if name == "untrained":
        seconds, scores = 0.0, untrained(parts.train, seed)
    else:
        seconds, scores = trained(name, parts.train, seed, options.steps)
    rows: dict[str, Any] = {}
    for row, score in scores.items():
        found = score(parts.test.images)
        drawn, true = areas(score(parts.drawn.images), parts.drawn), areas(found, parts.test)
        rows[row] = {"drawn": drawn["all"], **true, **causes(found, parts.test), "seconds": seconds}
        print(f"  {row:28} drawn {drawn['all']:.1%}, true {true['all']:.1%}", flush=True)
    if name == "untrained":  # one method is enough to tell by how much the division matters, and this one is fast
        score = untrained(parts.given_train, seed)[THUMBNAILS]
        rows[THUMBNAILS]["given"] = areas(score(parts.given_test.images), parts.given_test)["all"]
    if name == "pasted, where":
        panel(scores[name], parts, options.out.with_suffix(".png"))
    return rows


def tables_of(seeds: Sequence[dict[str, Any]], names: Sequence[str]) -> dict[str, Any]:
    """Lay out the areas of every seed by method."""

    def cells(method: str, keys: Sequence[str]) -> list[Any]:
        return [None if seeds[0][method][key] is None else [rows[method][key] for rows in seeds] for key in keys]

    kinds = [str(kind) for kind in range(1, len(names) + 1)]
    keys = ["drawn", "all", *kinds, "pixels"]
    seconds = {method: round(statistics.mean(rows[method]["seconds"] for rows in seeds)) for method in seeds[0]}
    untaught = [method for method, row in seeds[0].items() if "given" in row]
    return {
        "AUROC of images, of each kind of defect, and of pixels": {
            "columns": ["drawn", "all true", *names, "pixels", "seconds"],
            "rows": {method: [*cells(method, keys), seconds[method]] for method in seeds[0]},
        },
        "What scores of flawless pictures follow, and where maps are highest": {
            "columns": ["brightness", "contrast", "at the border, flawless", "on the defect, defective"],
            "rows": {method: cells(method, ["brightness", "contrast", "border", "hit"]) for method in seeds[0]},
        },
        "AUROC of images, pieces in both parts or in one": {
            "columns": ["divided at random, as given", "divided by piece"],
            "rows": {method: cells(method, ["given", "all"]) for method in untaught},
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="magnetic-tile.npz")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--steps", type=int, default=100, help="of each pretext task, with 32 crops")
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--out", type=Path, default=Path("out/defects.json"))
    options = parser.parse_args()
    parts, names = divide(options.data)
    settings = {"steps": options.steps}
    sizes = {part: len(getattr(parts, part).images) for part in ("drawn", "test", "given_test")}
    sizes |= {part: len(getattr(parts, part)) for part in ("train", "given_train")}

    cells = options.out.with_suffix("")
    cells.mkdir(parents=True, exist_ok=True)
    finished = []
    for seed in options.seeds:
        rows: dict[str, Any] = {}
        for name in ("untrained", *options.tasks):
            cell = cells / f"{seed} {name}.json"
            if not cell.exists():
                print(f"seed {seed}, {name}", flush=True)
                unfinished = cell.with_suffix(".part")
                unfinished.write_text(json.dumps([settings, measured(name, seed, parts, options)]))
                unfinished.rename(cell)
            kept, found = json.loads(cell.read_text())
            if kept != settings:
                parser.error(f"{cell} is of other settings than {settings}: give another --out.")
            rows |= found
        finished.append(rows)
    report = {
        "command": shlex.join(["python", *sys.argv]),
        "data": Path(options.data).stem,
        "pictures": sizes,
        "seeds": options.seeds,
        "settings": settings,
        "published": PUBLISHED,
        "tables": tables_of(finished, names),
        "environment": {
            "pretextkit": pk.__version__,
            "torch": torch.__version__,
            "machine": platform.machine(),
            "threads": torch.get_num_threads(),
        },
    }
    options.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
