"""Run every pretext task, view and measure on images of many numbers of channels and shapes, and table what works.

    python experiments/images_table.py --out docs/figures/images.json

A cell says "works", or the number of the error. Images are landscapes of ``toy_images``, because a call either runs or
does not; every network is built for the channels of its images. Errors of any other kind than pretextkit's stop the
script.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from _report import write_report
from torch import Generator, Tensor, nn

import pretextkit as pk
from pretextkit import functional, plots, views
from pretextkit.testing import TinyBackbone, toy_images

SHAPES = {"64x64": (64, 64), "48x80": (48, 80), "80x48": (80, 48)}


def seeded() -> Generator:
    """Make a generator with seed 0."""
    return Generator().manual_seed(0)


def build(task: str, channels: int) -> pk.PretextTask[Any]:
    """Build a task for images of some channels; ``mae`` needs tokens, and ``distillation`` a teacher."""
    if task == "mae":
        return pk.pretext_tasks.create(task, pk.models.ViTTiny(in_channels=channels, patch=8))
    options = {"teacher": TinyBackbone(in_channels=channels)} if task == "distillation" else {}
    return pk.pretext_tasks.create(task, TinyBackbone(in_channels=channels), **options)


def step(task: str) -> Callable[[Tensor], object]:
    """Take a training step, backward pass included."""

    def work(images: Tensor) -> None:
        module = build(task, images.shape[1])
        output = module.train().step(images, seeded())
        torch.autograd.backward(output.loss)
        if not output.loss.isfinite():
            raise SystemExit(f"{task}: loss {float(output.loss)} on images {tuple(images.shape)}.")

    return work


def anomalies(images: Tensor) -> None:
    """Score images by every measure but rotations."""
    backbone = TinyBackbone(in_channels=images.shape[1])
    functional.neighbor_anomaly_score(backbone, images, images[:2])
    functional.mahalanobis_anomaly_score(backbone, images, images[:2])
    functional.patch_anomaly_score(backbone, images, images[:2])
    functional.reconstruction_anomaly_score(pk.tasks.Autoencoder(backbone).reconstruct, images[:2])


def segment(images: Tensor) -> None:
    """Probe the classes of pixels, bright and dark."""
    data = (images, (images[:, 0] > images[:, 0].median()).long())
    functional.segmentation_probe(TinyBackbone(in_channels=images.shape[1]), data, data, steps=1)


def finetune(images: Tensor) -> None:
    """Fine-tune for a step."""
    backbone, head = TinyBackbone(in_channels=images.shape[1]), pk.models.LinearHead(64, 2)
    functional.freeze_and_finetune(backbone, head, labeled(images), steps=1, batch_size=4, progress=False)


def labeled(images: Tensor) -> tuple[Tensor, Tensor]:
    """Label images by turns."""
    return images, torch.arange(len(images)) % 2


def own_network(images: Tensor) -> None:
    """Probe a network that is no backbone."""
    network = nn.Sequential(nn.Conv2d(images.shape[1], 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    functional.knn_probe(network, labeled(images), k=1)


VIEWS: dict[str, Callable[[Tensor], object]] = {
    "random_resized_crop": lambda images: views.random_resized_crop(images, generator=seeded()),
    "random_horizontal_flip": lambda images: views.random_horizontal_flip(images, 0.5, generator=seeded()),
    "rotate90": lambda images: views.rotate90(images, torch.arange(len(images)) % 4),
    "color_jitter": lambda images: views.color_jitter(images, generator=seeded()),
    "random_grayscale": lambda images: views.random_grayscale(images, generator=seeded()),
    "to_grayscale": views.to_grayscale,
    "CropAndRecolor": lambda images: views.CropAndRecolor()(images, seeded()),
    "LightAugmentation": lambda images: views.LightAugmentation()(images, seeded()),
    "mask_patches": lambda images: views.hide_pixels(images, views.mask_patches(images, generator=seeded())),
}
MEASURES: dict[str, Callable[[Tensor], object]] = {
    "knn_probe": lambda images: functional.knn_probe(TinyBackbone(in_channels=images.shape[1]), labeled(images), k=1),
    "knn_probe of an own network": own_network,
    "linear_probe": lambda images: functional.linear_probe(TinyBackbone(in_channels=images.shape[1]), labeled(images)),
    "freeze_and_finetune": finetune,
    "segmentation_probe": segment,
    "anomaly scores": anomalies,
    "rotation_anomaly_score": lambda images: functional.rotation_anomaly_score(
        pk.tasks.Rotation(TinyBackbone(in_channels=images.shape[1])), images
    ),
    "plots.views": lambda images: plots.views(pk.TwoViews(images, images), count=2),
}


class Cells:
    """Cells of tables, with one number for each reason."""

    def __init__(self) -> None:
        self.reasons: list[str] = []

    def of(self, name: str, work: Callable[[Tensor], object], images: Tensor) -> str:
        """Do work; return "works" or the number of the error."""
        try:
            work(images)
            result = "works"
        except pk.PretextkitError as error:
            text = str(error).replace(str(tuple(images.shape)), "(...)")
            if text not in self.reasons:
                self.reasons.append(text)
            result = f"[{self.reasons.index(text) + 1}]"
        print(f"{name}, {tuple(images.shape)}: {result}", flush=True)
        return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--channels", nargs="+", type=int, default=[1, 2, 3, 4, 13], help="numbers of channels")
    parser.add_argument("--tasks", nargs="+", default=list(pk.pretext_tasks), help="registered names")
    parser.add_argument("--out", type=Path, default=Path("out/images.json"), help="the report, or a folder for it")
    args = parser.parse_args()
    warnings.simplefilter("error")
    cells = Cells()
    kinds = {"Tasks": {name: step(name) for name in args.tasks}, "Views": VIEWS, "Measures": MEASURES}
    by_channels = {count: toy_images(12, size=64, channels=count, generator=seeded()) for count in args.channels}
    by_shape = {name: toy_images(12, size=size, generator=seeded()) for name, size in SHAPES.items()}
    tables = {}
    for title, calls in kinds.items():
        for what, sets in (("channels", by_channels), ("shape", by_shape)):
            rows = {name: [cells.of(name, work, images) for images in sets.values()] for name, work in calls.items()}
            tables[f"{title} by {what}"] = {"corner": title[:-1], "columns": list(map(str, sets)), "rows": rows}
    reasons = {f"[{number}]": [text] for number, text in enumerate(cells.reasons, 1)}
    tables["Reasons"] = {"corner": "Number", "columns": ["Error"], "rows": reasons}
    path = args.out if args.out.suffix == ".json" else args.out / "images.json"
    write_report(path, "landscapes of toy_images", tables=tables)


if __name__ == "__main__":
    main()
