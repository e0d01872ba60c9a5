"""Tell images without faces from faces, having seen faces only: by reconstruction, rotation and distances of features.

    python experiments/faces_anomaly.py --data faces.npz --seeds 0 1 2

``faces.npz`` holds ``train_images`` and ``test_images`` of faces and ``anomaly_images`` without, each ``n h w c``. Any
other set that ``pretextkit.data.load`` knows will do: the class ``--normal`` is then normal and the rest anomalous.
Nothing is chosen by looking at anomalies. Repeat the command to go on where a run was stopped.
"""

from __future__ import annotations

import argparse
import json
import math
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor, nn

import pretextkit as pk
from pretextkit.data._image_conversion import resize_and_crop
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
    """All uint8 ``n c h w``."""

    train: Tensor
    held_out: Tensor
    """Normal images that no model sees, for calibration."""
    normal: Tensor
    anomalous: Tensor


def read(options: argparse.Namespace) -> Images:
    """Take a tenth of the normal training images away, before anything is trained."""
    data = pk.data.load(options.data, size=options.size)
    train, normal = data.train_images, data.test_images
    if Path(options.data).suffix == ".npz" and "anomaly_images" in (archive := np.load(options.data)):
        strange = torch.from_numpy(archive["anomaly_images"]).permute(0, 3, 1, 2)
        strange = torch.cat([resize_and_crop(chunk, options.size) for chunk in torch.split(strange, 1024)])
    else:
        train = train[data.train_labels == options.normal]
        normal = data.test_images[data.test_labels == options.normal]
        strange = data.test_images[data.test_labels != options.normal]
    generator = Generator().manual_seed(0)
    train, normal, strange = (
        part[torch.randperm(len(part), generator=generator)[: options.images]] for part in (train, normal, strange)
    )
    tenth = len(train) // 10
    return Images(train[tenth:], train[:tenth], normal, strange)


def principal_components(train: Tensor, variance: float) -> tuple[int, Callable[[Tensor], Tensor]]:
    """Reconstruct images by the first components of the training pixels, as many as keep a share of their variance."""
    pixels = train.flatten(1).float() / 255
    mean = pixels.mean(0)
    values, vectors = torch.linalg.eigh(torch.cov(pixels.T))
    kept = values.flip(0).cumsum(0) / values.sum()
    count = int((kept < variance).sum()) + 1
    directions = vectors.flip(1)[:, :count]
    return count, lambda x: ((x.flatten(1) - mean) @ directions @ directions.T + mean).clamp(0, 1).view_as(x)


def reconstruction_scores(name: str, reconstruct: Callable[[Tensor], Tensor], images: Tensor) -> dict[str, Tensor]:
    """Every error with every reduction; a map is made once for both."""
    scores: dict[str, Tensor] = {}
    errors: tuple[Literal["l1", "l2", "ssim"], ...] = ("l1", "l2", "ssim")
    for error in errors:
        found = reconstruction_anomaly_score(reconstruct, images, error=error)
        assert found.maps is not None
        scores |= {f"{name}, {error}, mean": found.scores, f"{name}, {error}, top 1%": TopFraction(0.01)(found.maps)}
    return scores


def feature_scores(name: str, backbone: nn.Module, train: Tensor, images: Tensor) -> dict[str, Tensor]:
    return {
        f"neighbors, {name}": neighbor_anomaly_score(backbone, train, images).scores,
        f"Mahalanobis, {name}": mahalanobis_anomaly_score(backbone, train, images, layers="all").scores,
    }


def scored(images: Images, seed: int, options: argparse.Namespace) -> Iterator[tuple[dict[str, Tensor], float]]:
    """Scores by method of what was held out, of normal and of anomalous images, and the seconds of training."""
    train, tested = images.train, torch.cat(images[1:])

    def backbone() -> pk.SpatialBackbone:
        torch.manual_seed(seed)
        return pk.models.SmallCNN(in_channels=train.shape[1])

    def trained(name: str, task: Any) -> float:
        run = pretrain(
            task, train, epochs=options.epochs, batch_size=64, seed=seed, checkpoint=options.out / f"{name}-{seed}"
        )
        task.eval()  # for the panels, which call it directly
        print(f"{name}, seed {seed}: {run}", flush=True)
        return run.history.last["seconds"]

    count, project = principal_components(train, options.variance)
    yield reconstruction_scores("principal components", project, tested), 0.0
    places = backbone().eval().feature_map(train[:1].float() / 255)[0, 0].numel()
    code = math.ceil(count / places)  # of as many numbers as there are components: chosen on normal images alone
    small = nn.Sequential(nn.AdaptiveAvgPool2d(16), nn.Flatten())
    pixels = neighbor_anomaly_score(small, train, tested, metric="euclidean")
    yield {"neighbors, 16x16 pixels": pixels.scores}, 0.0
    yield feature_scores("untrained", backbone(), train, tested), 0.0

    tasks: dict[str, Any] = {"autoencoder": pk.tasks.Autoencoder, "denoising": pk.tasks.Denoising}
    for name, kind in tasks.items():
        task = kind(backbone(), bottleneck=code)
        seconds = trained(name, task)
        yield reconstruction_scores(name, task.reconstruct, tested), seconds
        if seed == options.seeds[0]:
            draw_panel(name, task.reconstruct, images, options.out)

    rotation = pk.tasks.Rotation(backbone())
    seconds = trained("rotation", rotation)
    yield {"rotation": rotation_anomaly_score(rotation, tested).scores}, seconds
    # Rotation's backbone, as faces have an upright side, and as the rotation score needs that one anyway.
    yield feature_scores("rotation", rotation.backbone, train, tested), seconds


def judge(name: str, scores: Tensor, images: Images, picture: Path | None) -> dict[str, float]:
    """Calibrate on what was held out, and compare normal test images with anomalies."""
    held_out, normal, strange = torch.split(scores, [len(part) for part in images[1:]])
    threshold = calibrate(held_out, false_positive_rate=FALSE_POSITIVE_RATE).threshold
    if picture is not None:
        score_histogram(normal, strange, threshold=threshold, title=name).savefig(picture)
    above = {
        "normal_above_threshold": (normal > threshold).float().mean().item(),
        "anomalous_above_threshold": (strange > threshold).float().mean().item(),
    }
    return {**detection_metrics(normal, strange)._asdict(), **above}


def draw_panel(name: str, reconstruct: Callable[[Tensor], Tensor], images: Images, out: Path) -> None:
    both = torch.cat([images.normal, images.anomalous])
    result = reconstruction_anomaly_score(reconstruct, both)
    assert result.maps is not None
    ends = result.scores.argsort()[[*range(6), *range(-6, 0)]]
    with torch.no_grad():
        made = reconstruct(both[ends].float() / 255)
    figure = reconstruction_panel(both[ends], made, result.maps[ends], result.scores[ends], title=name)
    figure.savefig(out / f"faces-anomaly-{name}-panel.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="faces.npz")
    parser.add_argument("--normal", type=int, default=9, help="the normal class of a labeled set")
    parser.add_argument("--size", type=int, default=32, help="images are resized to so many pixels")
    parser.add_argument("--images", type=int, help="use so many of each kind only")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--variance", type=float, default=0.9, help="of normal pixels, that the code has room for")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("out/faces-anomaly"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    images = read(options)
    counts = ", ".join(f"{len(part):,} {name}" for name, part in images._asdict().items())
    print(f"{options.data}: {counts}, of {tuple(images.train.shape[1:])}", flush=True)

    runs: dict[str, list[dict[str, float]]] = {}
    for seed in options.seeds:
        for found, seconds in scored(images, seed, options):
            for name, scores in found.items():
                first = seed == options.seeds[0]
                file = f"faces-anomaly-{name.replace(', ', '-').replace(' ', '-').replace('%', '')}.png"
                result = judge(name, scores, images, options.out / file if first else None)
                runs.setdefault(name, []).append({"seed": seed, **result, "training_seconds": seconds})
                print(f"{name}, seed {seed}: AUROC {result['auroc']:.1%}", flush=True)

    columns = {"auroc": "AUROC", "average_precision": "average precision", "fpr_at_95": "FPR at 95 % TPR"}
    rows = {name: [[result[key] for result in results] for key in columns] for name, results in runs.items()}
    for name, cells in rows.items():
        shown = ", ".join(
            f"{title} {statistics.mean(cell):6.1%}" for title, cell in zip(columns.values(), cells, strict=True)
        )
        print(f"{name:40} {shown}")
    report = {
        "command": shlex.join(["python", *sys.argv]),
        "data": f"{options.data}: {counts}, {options.size}x{options.size}",
        "epochs": options.epochs,
        "variance": options.variance,
        "seeds": options.seeds,
        "false_positive_rate": FALSE_POSITIVE_RATE,
        "seconds_of_this_call": time.monotonic() - begun,
        "threads": torch.get_num_threads(),
        "environment": {"pretextkit": pk.__version__, "torch": torch.__version__},
        "tables": {"Anomalies told from normal images": {"columns": list(columns.values()), "rows": rows}},
        "runs": runs,
    }
    (options.out / "faces-anomaly.json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
