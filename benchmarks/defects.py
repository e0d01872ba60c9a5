"""Find defects on surfaces, having seen flawless ones only: the area under the ROC curve of images and of pixels.

    python benchmarks/defects.py --data magnetic-tile.npz

The ``.npz`` file holds ``train_images`` of flawless surfaces, and ``test_images``, ``test_labels`` (0 is flawless) and
``test_masks``, above 0 where a defect is. Nothing is chosen by looking at the test part.
"""

from __future__ import annotations

import argparse
import json
import platform
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

import pretextkit as pk
from pretextkit.functional import (
    AnomalyScores,
    TopShare,
    detection_metrics,
    mahalanobis_anomaly_score,
    neighbor_anomaly_score,
    patch_anomaly_score,
    pretrain,
    reconstruction_anomaly_score,
    rotation_anomaly_score,
)

MIDDLE = ["stage2", "stage3"]
"""As in PatchCore: early layers see edges only, and late ones have forgotten where they are."""


def scored(train: Tensor, test: Tensor, options: argparse.Namespace) -> Iterator[tuple[str, AnomalyScores, float]]:
    """Name, scores of test and seconds of training of each method."""

    def backbone() -> pk.SpatialBackbone:
        torch.manual_seed(options.seed)
        network = pk.models.SmallCNN(in_channels=train.shape[1])
        network.normalization.measure(train)
        return network

    yield "patches, untrained", patch_anomaly_score(backbone(), train, test, layers=MIDDLE), 0.0
    tasks: dict[str, Any] = {
        "autoencoder": pk.tasks.Autoencoder(backbone(), bottleneck=options.bottleneck),
        "denoising": pk.tasks.Denoising(backbone(), bottleneck=options.bottleneck),
        "rotation": pk.tasks.Rotation(backbone()),
    }
    for name, task in tasks.items():
        turns = 4 if name == "rotation" else 1  # as many views for every task
        run = pretrain(task, train, epochs=options.epochs // turns, batch_size=32 // turns, seed=options.seed)
        print(f"{name}: {run}", flush=True)
        if isinstance(task, pk.tasks.Rotation):
            yield "rotation", rotation_anomaly_score(task, test), run.seconds
        else:
            errors: tuple[Literal["l2", "ssim"], ...] = ("l2", "ssim")
            for error in errors:
                found = reconstruction_anomaly_score(task.reconstruct, test, error=error, reduction=TopShare(0.01))
                yield f"{name}, {error}, top 1%", found, run.seconds
        yield f"patches, {name}", patch_anomaly_score(task.backbone, train, test, layers=MIDDLE), run.seconds
        yield f"neighbours, {name}", neighbor_anomaly_score(task.backbone, train, test, layers="all"), run.seconds
        yield f"Mahalanobis, {name}", mahalanobis_anomaly_score(task.backbone, train, test, layers="all"), run.seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="magnetic-tile.npz")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--bottleneck", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("out/defects.json"))
    options = parser.parse_args()
    data = pk.data.load(options.data)
    masks = torch.from_numpy(np.load(options.data)["test_masks"]).view(len(data.test_images), -1) > 0
    strange = data.test_labels > 0

    rows = []
    for name, found, seconds in scored(data.train_images, data.test_images, options):
        row: dict[str, Any] = {"name": name, "training_seconds": seconds}
        row["images"] = detection_metrics(found.scores[~strange], found.scores[strange])._asdict()
        for label in range(1, len(data.class_names)):
            kind = detection_metrics(found.scores[~strange], found.scores[data.test_labels == label])
            row[f"auroc_{data.class_names[label]}"] = kind.auroc
        if found.maps is not None:
            pixels = found.maps.flatten(1)
            row["pixels"] = detection_metrics(pixels[~masks], pixels[masks])._asdict()
        rows.append(row)
        of_pixels = f", pixel AUROC {row['pixels']['auroc']:.1%}" if "pixels" in row else ""
        print(f"{name:28} image AUROC {row['images']['auroc']:.1%}{of_pixels}", flush=True)
    report = {
        "command": shlex.join(["python", *sys.argv]),
        "data": str(data),
        "epochs": options.epochs,
        "seed": options.seed,
        "tables": {
            "AUROC of images, of each kind of defect, and of pixels": {
                "columns": ["all defects", *data.class_names[1:], "pixels", "seconds"],
                "rows": {
                    row["name"]: [
                        row["images"]["auroc"],
                        *(row[f"auroc_{name}"] for name in data.class_names[1:]),
                        row["pixels"]["auroc"] if "pixels" in row else None,
                        round(row["training_seconds"]),
                    ]
                    for row in rows
                },
            }
        },
        "runs": rows,
        "environment": {
            "pretextkit": pk.__version__,
            "torch": torch.__version__,
            "machine": platform.machine(),
            "threads": torch.get_num_threads(),
        },
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
