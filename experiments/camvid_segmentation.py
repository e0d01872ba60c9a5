"""Segmentation probes on frozen feature maps: random init, each pretext task, and supervised training.

    python experiments/camvid_segmentation.py --data data/camvid.npz

``--data`` takes any source of ``pretextkit.data.load_segmentation``, an ``.npz`` file or a folder in the layout of
Pascal VOC, or ``synthetic``: discs and boxes, to try the script. The budget ``--views`` is the number of views of each
crop that pass through the backbone; it is the same for every task. Repeat the command to resume.
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from _report import Rows, write_report
from _tasks import tasks_for
from torch import Tensor, nn

import pretextkit as pk
from pretextkit.data import SegmentationData, Segmented, load_segmentation
from pretextkit.functional import (
    ConvMapHead,
    LinearMapHead,
    pretrain,
    segmentation_metrics,
    segmentation_probe,
    views_per_image,
)
from pretextkit.plots import segmentation

SHOWN = 4
"""Number of test images in the plot; spread over the film, because neighboring frames look alike."""


class Experiment:
    """The data and the options of all rows."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.data = synthetic(60) if options.data == "synthetic" else load_segmentation(options.data)
        self.crops = square_crops(self.data.train.images, options.crops, options.crop_size, options.seed)
        self.shown = torch.linspace(0, len(self.data.test.images) - 1, SHOWN).long()

    def random_init(self) -> dict[str, Any]:
        return self.probe(new_backbone(self.options, self.data), 0.0)

    def pretrained(self, name: str) -> dict[str, Any]:
        """Pretrain one task on the crops and probe its backbone."""
        options, crops = self.options, self.crops
        backbone = new_backbone(options, self.data)
        task = pk.pretext_tasks.create(name, backbone)
        batch_size = min(64, len(crops))
        steps = round(options.views * len(crops) / (batch_size * views_per_image(task, crops)))
        folder = options.out / "runs" / name
        run = pretrain(task, crops, steps=steps, batch_size=batch_size, seed=options.seed, checkpoint=folder)
        print(run)
        return self.probe(backbone, run.history.last["seconds"])

    def supervised(self) -> dict[str, Any]:
        """Train encoder and head together with labels."""
        options, data = self.options, self.data
        begun = time.monotonic()
        predictions = train_supervised(new_backbone(options, data), data, options.supervised_steps, options.seed)
        seconds = time.monotonic() - begun
        found = segmentation_metrics(
            predictions, data.test.masks, len(data.class_names), ignore_index=data.ignore_index
        )
        facts = {"layer": "end to end", "training_seconds": seconds}
        return {**scores(*found, data), **facts, "masks": predictions[self.shown].tolist()}

    def probe(self, backbone: pk.Backbone, seconds: float) -> dict[str, Any]:
        """Fit a segmentation head on the frozen maps of a backbone."""
        options, data = self.options, self.data
        result = segmentation_probe(
            backbone,
            data.train,
            data.test,
            validation=data.validation,
            head=LinearMapHead if options.head == "linear" else ConvMapHead,
            layers=options.layers,
            ignore_index=data.ignore_index,
            steps=options.steps,
            storage=torch.bfloat16,
            seed=options.seed,
        )
        print(result, flush=True)
        return {
            **scores(result.miou, result.pixel_accuracy, result.class_iou, data),
            "layer": result.layer,
            "miou_of_layers": {layer: score.miou for layer, score in result.layers.items()},
            "training_seconds": seconds,
            "probe_seconds": result.seconds,
            "masks": result.predictions[self.shown].tolist(),
        }


def tables_of(rows: dict[str, dict[str, Any]], class_names: tuple[str, ...]) -> dict[str, Any]:
    columns = ("miou", "pixel_accuracy", "layer")
    return {
        "Segmentation": {
            "columns": ["mean IoU", "pixel accuracy", "layer", "training, s"],
            "rows": {
                name: [*(row[column] for column in columns), round(row["training_seconds"])]
                for name, row in rows.items()
            },
        },
        "IoU of each class": {
            "columns": list(class_names),
            "rows": {name: list(row["class_iou"].values()) for name, row in rows.items()},
        },
    }


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="data/camvid.npz")
    parser.add_argument("--tasks", nargs="*", help="all that the backbone can train, by default")
    parser.add_argument("--backbone", default="small-cnn")
    parser.add_argument("--head", choices=["linear", "conv"], default="linear")
    parser.add_argument("--layers", choices=["all", "last"], default="all", help="stages to probe")
    parser.add_argument("--views", type=float, default=40.0, help="budget of pretraining: views of each crop")
    parser.add_argument("--crops", type=int, default=8, help="square crops of each image to pretrain on")
    parser.add_argument("--crop-size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=300, help="steps of each fit of the probe's head")
    parser.add_argument("--supervised-steps", type=int, default=600, help="steps of encoder and head, in batches of 8")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=Path("out/camvid-segmentation"))
    return parser.parse_args()


def main() -> None:
    options = read_options()
    options.tasks = tasks_for(options.backbone) if options.tasks is None else options.tasks
    torch.set_num_threads(options.threads)
    experiment = Experiment(options)
    data = experiment.data
    print(data)
    settings = {name: value for name, value in vars(options).items() if name not in ("tasks", "threads", "out")}
    finished = Rows(options.out / "rows", settings)
    rows = {"random init": finished.measure("random init", experiment.random_init)}
    for name in options.tasks:
        rows[name] = finished.measure(name, partial(experiment.pretrained, name))
    rows["supervised"] = finished.measure("supervised", experiment.supervised)
    masks = {name: torch.tensor(row.pop("masks")) for name, row in rows.items()}
    for name, row in rows.items():
        print(f"{name}: mIoU {row['miou']:.1%}, pixel accuracy {row['pixel_accuracy']:.1%} ({row['layer']})")
    write_report(
        options.out / "camvid-segmentation.json",
        data,
        backbone=options.backbone,
        head=options.head,
        seed=options.seed,
        tables=tables_of(rows, data.class_names),
        runs=rows,
    )
    images, truth = data.test.images[experiment.shown], data.test.masks[experiment.shown]
    figure = segmentation(images, truth, masks, data.class_names, ignore_index=data.ignore_index)
    figure.savefig(options.out / "camvid-segmentation.png")
    print(f"The measurements and the plot are in {options.out}")


def new_backbone(options: argparse.Namespace, data: SegmentationData) -> pk.SpatialBackbone:
    """Create the backbone of every row: always the same weights and normalization."""
    torch.manual_seed(options.seed)
    backbone = pk.backbones.create(options.backbone)
    assert isinstance(backbone, pk.SpatialBackbone)
    backbone.normalization.measure(data.train.images)
    return backbone


def square_crops(images: Tensor, count: int, size: int, seed: int) -> Tensor:
    """Cut random squares: the sides of an image that is not square would reveal its rotation."""
    generator = torch.Generator().manual_seed(seed)
    size = min(size, *images.shape[2:])
    tops, lefts = (
        torch.randint(side - size + 1, (len(images) * count,), generator=generator) for side in images.shape[2:]
    )
    corners = zip(tops.tolist(), lefts.tolist(), strict=True)
    return torch.stack([images[i // count, :, y : y + size, x : x + size] for i, (y, x) in enumerate(corners)])


def train_supervised(backbone: pk.SpatialBackbone, data: SegmentationData, steps: int, seed: int) -> Tensor:
    """Train encoder and head together on full images and their mirror images; return the test predictions."""
    generator = torch.Generator().manual_seed(seed)
    head = LinearMapHead(backbone.feature_dim, len(data.class_names))
    both = nn.ModuleList([backbone, head]).train()
    optimizer = torch.optim.AdamW(both.parameters(), lr=2e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=2e-3, total_steps=steps)

    def logits_of(images: Tensor) -> Tensor:
        logits = head(backbone.feature_map(images))
        return nn.functional.interpolate(logits, images.shape[2:], mode="bilinear", align_corners=False)

    for _ in range(steps):
        rows = torch.randint(len(data.train.images), (8,), generator=generator)
        images, masks = data.train.images[rows].float() / 255, data.train.masks[rows].long()
        if torch.rand((), generator=generator) < 0.5:
            images, masks = images.flip(3), masks.flip(2)
        loss = nn.functional.cross_entropy(logits_of(images), masks, ignore_index=data.ignore_index)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    both.eval()
    with torch.no_grad():
        parts = [logits_of(chunk.float() / 255).argmax(1) for chunk in torch.split(data.test.images, 8)]
    return torch.cat(parts)


def scores(miou: float, accuracy: float, class_iou: tuple[float, ...], data: SegmentationData) -> dict[str, Any]:
    named = {name: None if iou != iou else iou for name, iou in zip(data.class_names, class_iou, strict=True)}
    return {"miou": miou, "pixel_accuracy": accuracy, "class_iou": named}


def synthetic(count: int) -> SegmentationData:
    """Draw a disc and a box on noise, each surrounded by ignored pixels."""
    generator = torch.Generator().manual_seed(0)
    y, x = torch.meshgrid(torch.arange(48.0), torch.arange(64.0), indexing="ij")
    images = torch.rand(count, 3, 48, 64, generator=generator) * 80
    masks = torch.zeros(count, 48, 64, dtype=torch.uint8)
    for image, mask in zip(images, masks, strict=True):
        for kind in (1, 2):
            middle = torch.rand(2, generator=generator) * torch.tensor([24.0, 32.0]) + torch.tensor([12.0, 16.0])
            away = torch.stack([y - middle[0], x - middle[1]])
            distance = away.norm(dim=0) if kind == 1 else away.abs().amax(0)
            mask[distance < 10] = 255
            mask[distance < 9] = kind
            image[:, distance < 9.5] += 60 + 50 * torch.rand(3, 1, generator=generator)
    part = Segmented(images.clamp(0, 255).to(torch.uint8), masks)
    train, test = (
        Segmented(*(values[rows] for values in part)) for rows in (slice(count // 3, None), slice(count // 3))
    )
    return SegmentationData("synthetic", train, None, test, ("ground", "disc", "box"), 255)


if __name__ == "__main__":
    main()
