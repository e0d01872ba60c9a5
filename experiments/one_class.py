"""One-class anomaly detection: each class is normal in turn, the nine others are anomalous.

    python experiments/one_class.py --data fashion-mnist --epochs 8
    python experiments/one_class.py --data cifar10 --epochs 40 --classes 0 1 2

The report has the area under the ROC curve of every method. ``--data`` takes any source of ``pretextkit.data.load``.
Training uses the normal class of the training images; scores are measured on all test images, and nothing is chosen by
them. Repeat the command to resume; several processes can share the classes.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from _report import Rows, write_report
from torch import Generator, Tensor, nn

import pretextkit as pk
from pretextkit.functional import (
    AnomalyScores,
    detection_metrics,
    mahalanobis_anomaly_score,
    neighbor_anomaly_score,
    pretrain,
    reconstruction_anomaly_score,
    rotation_anomaly_score,
)
from pretextkit.views import random_horizontal_flip, random_resized_crop

PUBLISHED = {
    "cifar10": {"OC-SVM": 64.8, "Deep SVDD": 64.8, "GEOM": 86.0, "CSI": 94.3},
    "fashion-mnist": {"OC-SVM": 92.8, "GEOM": 93.5},
}
"""Means over classes: Golan & El-Yaniv 2018 (arXiv 1805.10917), Tack et al. 2020 (arXiv 2007.08176)."""


def augment(images: Tensor, generator: Generator) -> Tensor:
    """Crop and flip at random: otherwise the network memorizes the few thousand images of one class."""
    images = random_resized_crop(images, scale=(0.6, 1.0), generator=generator)
    return random_horizontal_flip(images, generator=generator)


def principal_components(train: Tensor, count: int) -> Callable[[Tensor], Tensor]:
    """Reconstruct images from the first principal components of the training pixels; a baseline without a network."""
    pixels = train.flatten(1).float() / 255
    mean = pixels.mean(0)
    directions = torch.linalg.eigh(torch.cov(pixels.T))[1][:, -count:]
    return lambda x: ((x.flatten(1) - mean) @ directions @ directions.T + mean).clamp(0, 1).view_as(x)


def scores_by_method(
    train: Tensor, test: Tensor, options: argparse.Namespace
) -> Iterator[tuple[str, AnomalyScores, float]]:
    """Yield name, test scores and training seconds of each method."""
    channels = train.shape[1]

    def backbone() -> pk.SpatialBackbone:
        torch.manual_seed(options.seed)
        return pk.backbones.create(options.backbone, in_channels=channels)  # type: ignore[return-value]

    def trained(task: Any, epochs: int, change: Callable[[Tensor, Generator], Tensor] | None) -> float:
        run = pretrain(task, train, epochs=epochs, batch_size=64, seed=options.seed, augment=change, progress=False)
        print(f"  {type(task).__name__}: {run}", flush=True)
        return run.seconds

    small = nn.Sequential(nn.AdaptiveAvgPool2d(16), nn.Flatten())
    yield "neighbors, 16x16 pixels", neighbor_anomaly_score(small, train, test, metric="euclidean"), 0.0
    yield "neighbors, random init", neighbor_anomaly_score(backbone(), train, test), 0.0

    rotation = pk.tasks.Rotation(backbone())
    seconds = trained(rotation, options.epochs, augment if options.augment else None)
    yield "rotation", rotation_anomaly_score(rotation, test), seconds
    yield "neighbors, rotation", neighbor_anomaly_score(rotation.backbone, train, test), seconds
    yield "Mahalanobis, rotation", mahalanobis_anomaly_score(rotation.backbone, train, test), seconds

    autoencoder = pk.tasks.Autoencoder(backbone(), bottleneck=options.bottleneck)
    seconds = trained(autoencoder, options.reconstruction_epochs, None)
    errors: tuple[Literal["l2", "ssim"], ...] = ("l2", "ssim")
    for error in errors:
        project = principal_components(train, options.components)
        yield f"principal components, {error}", reconstruction_anomaly_score(project, test, error=error), 0.0
        found = reconstruction_anomaly_score(autoencoder.reconstruct, test, error=error)
        yield f"autoencoder, {error}", found, seconds


def one_class(data: pk.data.ImageData, label: int, options: argparse.Namespace) -> dict[str, Any]:
    """Measure every method with one class as the normal one."""
    begun = time.monotonic()
    train = data.train_images[data.train_labels == label][: options.images]
    here = data.test_labels == label
    methods = {}
    for name, found, seconds in scores_by_method(train, data.test_images, options):
        metrics = detection_metrics(found.scores[here], found.scores[~here])
        methods[name] = {**metrics._asdict(), "training_seconds": seconds}
        print(f"  {name}: {metrics}", flush=True)
    return {"class": data.class_names[label], "methods": methods, "seconds": time.monotonic() - begun}


def table_of(classes: dict[str, Any]) -> dict[str, Any]:
    """Arrange the AUROC of each method: mean of the classes, then each class."""
    found = list(classes.values())
    rows = {}
    for name in found[0]["methods"]:
        aurocs = [row["methods"][name]["auroc"] for row in found]
        rows[name] = [statistics.mean(aurocs), *aurocs]
    return {"columns": ["mean", *(row["class"] for row in found)], "rows": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--classes", type=int, nargs="+", help="all by default")
    parser.add_argument("--backbone", default="small-cnn")
    parser.add_argument("--epochs", type=int, default=8, help="epochs of rotation")
    parser.add_argument("--reconstruction-epochs", type=int, default=8, help="epochs of the autoencoder")
    parser.add_argument("--images", type=int, help="number of training images of a class; all by default")
    parser.add_argument("--bottleneck", type=int, default=8, help="channels of the autoencoder's code")
    parser.add_argument("--components", type=int, default=32, help="number of principal components")
    parser.add_argument("--augment", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="folder; by default out/one-class-<dataset>")
    options = parser.parse_args()
    data = pk.data.load(options.data)
    dataset = Path(options.data).stem
    out: Path = options.out or Path("out") / f"one-class-{dataset}"
    asked = ("backbone", "epochs", "reconstruction_epochs", "images", "bottleneck", "components", "augment", "seed")
    settings = {name: getattr(options, name) for name in asked}
    rows = Rows(out / "rows", settings)
    for label in options.classes or range(len(data.class_names)):
        rows.measure(f"{label:03}", partial(one_class, data, label, options))
    classes = rows.all()
    table = table_of(classes)
    write_report(
        out / f"one-class-{dataset}.json",
        data,
        settings=settings,
        published_means=PUBLISHED.get(dataset, {}),
        tables={"AUROC, each class normal in turn": table},
        seed=options.seed,
        seconds=sum(row["seconds"] for row in classes.values()),
        classes=classes,
    )
    for method, (mean, *_) in table["rows"].items():
        print(f"{method:28} {mean:6.1%} mean AUROC of {len(classes)} classes")


if __name__ == "__main__":
    main()
