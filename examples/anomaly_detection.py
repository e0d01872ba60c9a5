"""Anomaly detection: train on normal images only, then score new images, here by three methods.

    python examples/anomaly_detection.py --data cifar10 --normal 0

``--data`` is any source of ``pretextkit.data.load``; the class ``--normal`` is normal and the other classes are
anomalous. By default the ankle boots of the embedded sample are normal. Each threshold is calibrated on held-out normal
images: anomalous images are needed only to evaluate. ``--out`` receives the most anomalous images and their error maps.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import pretextkit as pk
from pretextkit.functional import (
    AnomalyScores,
    TopFraction,
    calibrate,
    detection_metrics,
    neighbor_anomaly_score,
    pretrain,
    reconstruction_anomaly_score,
    rotation_anomaly_score,
)
from pretextkit.plots import reconstruction_panel


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="sample", help="any source of pretextkit.data.load")
    parser.add_argument("--normal", type=int, default=9, help="number of the normal class")
    parser.add_argument("--images", type=int, help="number of normal training images; all by default")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--out", type=Path, default=Path("out/anomalies"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    data = pk.data.load(options.data)
    images = data.train_images[data.train_labels == options.normal][: options.images]
    held_out, train = images[: len(images) // 10], images[len(images) // 10 :]
    normal = data.test_labels == options.normal

    # A narrow code keeps the autoencoder from copying anomalies.
    autoencoder = pk.tasks.Autoencoder(new_backbone(train), bottleneck=8)
    rotation = pk.tasks.Rotation(new_backbone(train))  # for images with an upright side
    training: dict[str, Any] = {"epochs": options.epochs, "batch_size": 64}
    print(pretrain(autoencoder, train, **training, checkpoint=options.out / "autoencoder"))
    print(pretrain(rotation, train, **training, checkpoint=options.out / "rotation"))

    def reconstruction(images: torch.Tensor) -> AnomalyScores:
        return reconstruction_anomaly_score(autoencoder.reconstruct, images, error="ssim", reduction=TopFraction(0.01))

    methods: dict[str, Callable[[torch.Tensor], AnomalyScores]] = {
        "reconstruction error": reconstruction,
        "rotation loss": lambda images: rotation_anomaly_score(rotation, images),
        "neighbors of rotation features": lambda images: neighbor_anomaly_score(rotation.backbone, train, images),
    }
    for name, method in methods.items():
        threshold = calibrate(method(held_out).scores, false_positive_rate=0.05).threshold
        scores = method(data.test_images).scores
        metrics = detection_metrics(scores[normal], scores[~normal])
        found = (scores[~normal] > threshold).float().mean().item()
        print(f"{name}: AUROC {metrics.auroc:.1%}, {found:.1%} of the anomalous images above the threshold")

    result = reconstruction(data.test_images)
    assert result.maps is not None
    highest = result.scores.argsort(descending=True)[:8]
    with torch.no_grad():
        output = autoencoder.eval().reconstruct(data.test_images[highest].float() / 255)
    figure = reconstruction_panel(data.test_images[highest], output, result.maps[highest], result.scores[highest])
    figure.savefig(options.out / "most-anomalous.png")


def new_backbone(images: torch.Tensor) -> pk.SpatialBackbone:
    torch.manual_seed(0)
    backbone = pk.models.SmallCNN(in_channels=images.shape[1])
    backbone.normalization.measure(images)
    return backbone


if __name__ == "__main__":
    main()
