"""Read the classes of pixels off frozen feature maps: random, pretrained on each task, and trained with labels.

    python experiments/camvid_segmentation.py --data data/camvid.npz

``--data`` takes what ``pretextkit.data.load_segmentation`` takes, an ``.npz`` file or a folder in the layout of Pascal
VOC, or ``synthetic``: discs and boxes drawn here, to try the script out. The budget is ``--views``: so many views of
each crop go through the backbone, whatever a task makes of it. Repeat the command to go on where it was stopped: rows
that are finished are kept below ``--out``.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import torch
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="data/camvid.npz")
    parser.add_argument("--tasks", nargs="*", default=list(pk.pretext_tasks))
    parser.add_argument("--backbone", default="small-cnn")
    parser.add_argument("--head", choices=["linear", "conv"], default="linear")
    parser.add_argument("--layers", choices=["all", "last"], default="all", help="stages to probe, or the last one")
    parser.add_argument("--views", type=float, default=40.0, help="views of each crop, the budget of a pretraining")
    parser.add_argument("--crops", type=int, default=8, help="square crops of each image to pretrain on")
    parser.add_argument("--crop-size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=300, help="of each fit of the probe's head")
    parser.add_argument("--supervised-steps", type=int, default=600, help="of encoder and head, in batches of 8")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=Path("out/camvid-segmentation"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)

    data = synthetic(60) if options.data == "synthetic" else load_segmentation(options.data)
    print(data)
    crops = square_crops(data.train.images, options.crops, options.crop_size, options.seed)
    batch_size = min(64, len(crops))
    rows: dict[str, dict[str, Any]] = {}
    masks: dict[str, Tensor] = {}
    asked = {name: value for name, value in vars(options).items() if name not in ("tasks", "threads", "out")}

    def finished(name: str) -> bool:
        """Read a row that an earlier call with the same options left."""
        path = options.out / f"{name.replace(' ', '-')}.pt"
        kept = torch.load(path, weights_only=True) if path.exists() else {}
        if kept.get("asked") == asked:
            rows[name], masks[name] = kept["row"], kept["masks"]
        return name in rows

    def keep(name: str, row: dict[str, Any], predictions: Tensor) -> None:
        """Leave a row for a later call."""
        rows[name], masks[name] = row, predictions
        path = options.out / f"{name.replace(' ', '-')}.pt"
        torch.save({"asked": asked, "row": row, "masks": predictions}, path.with_suffix(".partial"))
        path.with_suffix(".partial").replace(path)

    def probe(name: str, backbone: pk.Backbone, seconds: float) -> None:
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
        print(f"{name}: {result}", flush=True)
        row = {
            **scores(result.miou, result.pixel_accuracy, result.class_iou, data),
            "layer": result.layer,
            "miou_of_layers": {layer: score.miou for layer, score in result.layers.items()},
            "training_seconds": seconds,
            "probe_seconds": result.seconds,
        }
        keep(name, row, result.predictions)

    if not finished("random init"):
        probe("random init", new_backbone(options, data), 0.0)
    for name in options.tasks:
        if finished(name):
            continue
        backbone = new_backbone(options, data)
        task = pk.pretext_tasks.create(name, backbone)
        steps = round(options.views * len(crops) / (batch_size * views_per_image(task, crops)))
        run = pretrain(
            task, crops, steps=steps, batch_size=batch_size, seed=options.seed, checkpoint=options.out / name
        )
        print(run)
        probe(name, backbone, run.history.last["seconds"])

    if not finished("supervised"):
        begun = time.monotonic()
        predictions = supervised(new_backbone(options, data), data, options.supervised_steps, options.seed)
        classes = len(data.class_names)
        found = segmentation_metrics(predictions, data.test.masks, classes, ignore_index=data.ignore_index)
        seconds = time.monotonic() - begun
        row = {**scores(*found, data), "layer": "end to end", "training_seconds": seconds}
        keep("supervised", row, predictions)
    for name, row in rows.items():
        print(f"{name}: mIoU {row['miou']:.1%}, pixel accuracy {row['pixel_accuracy']:.1%} ({row['layer']})")

    columns = ("miou", "pixel_accuracy", "layer")
    report = {
        "command": shlex.join(["python", *sys.argv]),
        "data": str(data),
        "backbone": options.backbone,
        "head": options.head,
        "seed": options.seed,
        "threads": options.threads,
        "environment": {"pretextkit": pk.__version__, "torch": torch.__version__},
        "tables": {
            "Classes of pixels": {
                "columns": ["mean IoU", "pixels told right", "layer", "training, s"],
                "rows": {
                    name: [*(row[column] for column in columns), round(row["training_seconds"])]
                    for name, row in rows.items()
                },
            },
            "IoU of each class": {
                "columns": list(data.class_names),
                "rows": {name: list(row["class_iou"].values()) for name, row in rows.items()},
            },
        },
        "runs": rows,
    }
    (options.out / "camvid-segmentation.json").write_text(json.dumps(report, indent=1) + "\n")
    spread = torch.linspace(0, len(data.test.images) - 1, 4).long()  # neighbors in a film look alike
    shown = {name: predicted[spread] for name, predicted in masks.items()}
    figure = segmentation(
        data.test.images[spread], data.test.masks[spread], shown, data.class_names, ignore_index=data.ignore_index
    )
    figure.savefig(options.out / "camvid-segmentation.png")
    print(f"The measurements as JSON and the picture are in {options.out}")


def new_backbone(options: argparse.Namespace, data: SegmentationData) -> pk.SpatialBackbone:
    """Every row starts from the same weights and the same normalization."""
    torch.manual_seed(options.seed)
    backbone = pk.backbones.create(options.backbone)
    assert isinstance(backbone, pk.SpatialBackbone)
    backbone.normalization.measure(data.train.images)
    return backbone


def square_crops(images: Tensor, count: int, size: int, seed: int) -> Tensor:
    """Cut random squares: rotation would be told by the sides of an image that is not square."""
    generator = torch.Generator().manual_seed(seed)
    size = min(size, *images.shape[2:])
    tops, lefts = (
        torch.randint(side - size + 1, (len(images) * count,), generator=generator) for side in images.shape[2:]
    )
    places = zip(tops.tolist(), lefts.tolist(), strict=True)
    return torch.stack([images[i // count, :, y : y + size, x : x + size] for i, (y, x) in enumerate(places)])


def supervised(backbone: pk.SpatialBackbone, data: SegmentationData, steps: int, seed: int) -> Tensor:
    """Train encoder and head together with labels, on whole images and their mirror images; segment the test part."""
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
    """Draw a disc and a box, each ringed by ignored pixels, on noise."""
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
