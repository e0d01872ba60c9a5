"""Anomaly detection after training on faces only: reconstruction errors, rotation loss and distances of features.

    python experiments/faces_anomaly.py --data faces.npz --seeds 0 1 2

``faces.npz`` holds ``train_images`` and ``test_images`` of faces and ``anomaly_images`` of other things, each
``n h w c``. With any other source of ``pretextkit.data.load``, the class ``--normal`` is normal and the others are
anomalous. Nothing is chosen by looking at anomalies. Repeat the command to resume.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from _report import Rows, write_report
from torch import Generator, Tensor, nn

import pretextkit as pk
from pretextkit.data._resizing import resize_and_crop  # as pk.data.load resizes the normal images
from pretextkit.functional import (
    TopFraction,
    calibrate,
    detection_metrics,
    mahalanobis_anomaly_score,
    neighbor_anomaly_score,
    pretrain,
    reconstruction_anomaly_score,
    rotation_anomaly_score,
)
from pretextkit.plots import reconstruction_panel, score_histogram

FALSE_POSITIVE_RATE = 0.05


class Images(NamedTuple):
    """Images by role, each uint8 ``n c h w``."""

    train: Tensor
    held_out: Tensor
    """Normal images for calibration; no model trains on them."""
    normal: Tensor
    anomalous: Tensor


def read(options: argparse.Namespace) -> Images:
    """Load the images and hold out a tenth of the normal training images."""
    data = pk.data.load(options.data, size=options.size)
    train, normal = data.train_images, data.test_images
    if Path(options.data).suffix == ".npz" and "anomaly_images" in (archive := np.load(options.data)):
        anomalous = torch.from_numpy(archive["anomaly_images"]).permute(0, 3, 1, 2)
        anomalous = torch.cat([resize_and_crop(chunk, options.size) for chunk in torch.split(anomalous, 1024)])
    else:
        train = train[data.train_labels == options.normal]
        normal = data.test_images[data.test_labels == options.normal]
        anomalous = data.test_images[data.test_labels != options.normal]
    generator = Generator().manual_seed(0)
    train, normal, anomalous = (
        part[torch.randperm(len(part), generator=generator)[: options.images]] for part in (train, normal, anomalous)
    )
    tenth = len(train) // 10
    return Images(train[tenth:], train[:tenth], normal, anomalous)


def principal_components(train: Tensor, variance: float) -> tuple[int, Callable[[Tensor], Tensor]]:
    """Return the number of principal components that keep a fraction of the variance, and their reconstruction."""
    pixels = train.flatten(1).float() / 255
    mean = pixels.mean(0)
    values, vectors = torch.linalg.eigh(torch.cov(pixels.T))
    kept = values.flip(0).cumsum(0) / values.sum()
    count = int((kept < variance).sum()) + 1
    directions = vectors.flip(1)[:, :count]
    return count, lambda x: ((x.flatten(1) - mean) @ directions @ directions.T + mean).clamp(0, 1).view_as(x)


def reconstruction_scores(name: str, reconstruct: Callable[[Tensor], Tensor], images: Tensor) -> dict[str, Tensor]:
    """Return the scores of every error with every reduction; both reductions share one map."""
    scores: dict[str, Tensor] = {}
    errors: tuple[Literal["l1", "l2", "ssim"], ...] = ("l1", "l2", "ssim")
    for error in errors:
        found = reconstruction_anomaly_score(reconstruct, images, error=error)
        assert found.maps is not None
        scores |= {f"{name}, {error}, mean": found.scores, f"{name}, {error}, top 1%": TopFraction(0.01)(found.maps)}
    return scores


def feature_scores(name: str, backbone: nn.Module, train: Tensor, images: Tensor) -> dict[str, Tensor]:
    """Return the scores by distances of features."""
    return {
        f"neighbors, {name}": neighbor_anomaly_score(backbone, train, images).scores,
        f"Mahalanobis, {name}": mahalanobis_anomaly_score(backbone, train, images, layers="all").scores,
    }


class Methods:
    """The groups of methods: each returns scores of held-out, normal and anomalous images, and seconds of training."""

    def __init__(self, images: Images, seed: int, options: argparse.Namespace) -> None:
        self.images, self.seed, self.options = images, seed, options
        self.train, self.tested = images.train, torch.cat(images[1:])
        self.components, self.project = principal_components(self.train, options.variance)

    def groups(self) -> dict[str, Callable[[], tuple[dict[str, Tensor], float]]]:
        return {
            "baselines": self.baselines,
            "autoencoder": partial(self.reconstruction, "autoencoder", pk.tasks.Autoencoder),
            "denoising": partial(self.reconstruction, "denoising", pk.tasks.Denoising),
            "rotation": self.rotation,
        }

    def backbone(self) -> pk.SpatialBackbone:
        torch.manual_seed(self.seed)
        return pk.models.SmallCNN(in_channels=self.train.shape[1])

    def pretrained(self, name: str, task: Any) -> float:
        folder = self.options.out / f"{name}-{self.seed}"
        epochs = self.options.epochs
        run = pretrain(task, self.train, epochs=epochs, batch_size=64, seed=self.seed, checkpoint=folder)
        task.eval()  # because the panels call it directly
        print(f"{name}, seed {self.seed}: {run}", flush=True)
        return run.history.last["seconds"]

    def baselines(self) -> tuple[dict[str, Tensor], float]:
        """Score without training a network."""
        small = nn.Sequential(nn.AdaptiveAvgPool2d(16), nn.Flatten())
        pixels = neighbor_anomaly_score(small, self.train, self.tested, metric="euclidean")
        return {
            **reconstruction_scores("principal components", self.project, self.tested),
            "neighbors, 16x16 pixels": pixels.scores,
            **feature_scores("random init", self.backbone(), self.train, self.tested),
        }, 0.0

    def reconstruction(self, name: str, kind: Any) -> tuple[dict[str, Tensor], float]:
        """Score by a network whose code has as many numbers as there are components: chosen on normal images."""
        positions = self.backbone().eval().feature_map(self.train[:1].float() / 255)[0, 0].numel()
        task = kind(self.backbone(), bottleneck=math.ceil(self.components / positions))
        seconds = self.pretrained(name, task)
        if self.seed == self.options.seeds[0]:
            save_panel(name, task.reconstruct, self.images, self.options.out)
        return reconstruction_scores(name, task.reconstruct, self.tested), seconds

    def rotation(self) -> tuple[dict[str, Tensor], float]:
        """Score by rotation, and by the features of its backbone: faces have an upright side."""
        task = pk.tasks.Rotation(self.backbone())
        seconds = self.pretrained("rotation", task)
        scores = rotation_anomaly_score(task, self.tested).scores
        return {"rotation": scores, **feature_scores("rotation", task.backbone, self.train, self.tested)}, seconds


def evaluate(name: str, scores: Tensor, images: Images, plot: Path | None) -> dict[str, float]:
    """Calibrate on the held-out images and compare normal test images with anomalous ones."""
    held_out, normal, anomalous = torch.split(scores, [len(part) for part in images[1:]])
    threshold = calibrate(held_out, false_positive_rate=FALSE_POSITIVE_RATE).threshold
    if plot is not None:
        score_histogram(normal, anomalous, threshold=threshold, title=name).savefig(plot)
    above = {
        "normal_above_threshold": (normal > threshold).float().mean().item(),
        "anomalous_above_threshold": (anomalous > threshold).float().mean().item(),
    }
    return {**detection_metrics(normal, anomalous)._asdict(), **above}


def save_panel(name: str, reconstruct: Callable[[Tensor], Tensor], images: Images, out: Path) -> None:
    """Plot the images with the lowest and the highest scores beside their reconstructions."""
    both = torch.cat([images.normal, images.anomalous])
    result = reconstruction_anomaly_score(reconstruct, both)
    assert result.maps is not None
    ends = result.scores.argsort()[[*range(6), *range(-6, 0)]]
    with torch.no_grad():
        output = reconstruct(both[ends].float() / 255)
    figure = reconstruction_panel(both[ends], output, result.maps[ends], result.scores[ends], title=name)
    figure.savefig(out / f"faces-anomaly-{name}-panel.png")


def measure(
    group: Callable[[], tuple[dict[str, Tensor], float]], images: Images, seed: int, options: argparse.Namespace
) -> dict[str, Any]:
    """Evaluate a group of methods."""
    results = {}
    scores_by_method, seconds = group()
    for name, scores in scores_by_method.items():
        file = f"faces-anomaly-{name.replace(', ', '-').replace(' ', '-').replace('%', '')}.png"
        result = evaluate(name, scores, images, options.out / file if seed == options.seeds[0] else None)
        results[name] = {"seed": seed, **result, "training_seconds": seconds}
        print(f"{name}, seed {seed}: AUROC {result['auroc']:.1%}", flush=True)
    return results


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="faces.npz")
    parser.add_argument("--normal", type=int, default=9, help="the normal class of a labeled dataset")
    parser.add_argument("--size", type=int, default=32, help="resize the images to this many pixels")
    parser.add_argument("--images", type=int, help="number of images of each kind; all by default")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--variance", type=float, default=0.9, help="fraction of pixel variance that the code can keep")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("out/faces-anomaly"))
    return parser.parse_args()


def main() -> None:
    options = read_options()
    images = read(options)
    counts = ", ".join(f"{len(part):,} {name}" for name, part in images._asdict().items())
    print(f"{options.data}: {counts}, of {tuple(images.train.shape[1:])}", flush=True)
    asked = ("data", "normal", "size", "images", "epochs", "variance")
    finished = Rows(options.out / "rows", {name: getattr(options, name) for name in asked})
    runs: dict[str, list[dict[str, float]]] = {}
    for seed in options.seeds:
        for group, function in Methods(images, seed, options).groups().items():
            results = finished.measure(f"{group}; {seed}", partial(measure, function, images, seed, options))
            for name, result in results.items():
                runs.setdefault(name, []).append(result)

    columns = {"auroc": "AUROC", "average_precision": "average precision", "fpr_at_95": "FPR at 95 % TPR"}
    rows = {name: [[result[key] for result in results] for key in columns] for name, results in runs.items()}
    for name, values in rows.items():
        means = zip(columns.values(), map(statistics.mean, values), strict=True)
        print(f"{name:40} " + ", ".join(f"{title} {value:6.1%}" for title, value in means))
    write_report(
        options.out / "faces-anomaly.json",
        f"{options.data}: {counts}, {options.size}x{options.size}",
        epochs=options.epochs,
        variance=options.variance,
        seeds=options.seeds,
        false_positive_rate=FALSE_POSITIVE_RATE,
        tables={"Anomaly detection": {"columns": list(columns.values()), "rows": rows}},
        runs=runs,
    )


if __name__ == "__main__":
    main()
