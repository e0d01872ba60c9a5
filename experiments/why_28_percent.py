"""Why rotation features gave 28 percent on street digits: the failure reproduced, then one cause removed at a time.

    python experiments/why_28_percent.py --data data/svhn.npz

A ResNet-18 made for ImageNet learns rotations of 32x32 digits without labels; then 732 labels train a classifier of its
frozen features. Every step of the table changes one thing and keeps what was changed before; beside it stands the
same step with random weights. ``--data`` takes anything that ``pretextkit.data.load`` takes.
"""

from __future__ import annotations

import argparse
import copy
import json
import platform
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

import pretextkit as pk
from pretextkit.functional import freeze_and_finetune, linear_probe, pretrain


def report_classifier() -> nn.Module:
    """512-128-10: 66,954 parameters."""
    return nn.Sequential(nn.Linear(512, 128), nn.ReLU(), nn.Linear(128, 10))


def train_carelessly(backbone: pk.Backbone, few: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]) -> float:
    """Train a classifier on "frozen" features as one does it by hand: without gradient, but in training mode.

    BatchNorm then normalizes by the batch, and its running statistics drift; in evaluation the features are others.
    """
    backbone, head = copy.deepcopy(backbone), report_classifier()
    model = nn.Sequential(backbone, head)
    for parameter in backbone.parameters():
        parameter.requires_grad_(False)
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-3)
    images, labels = few[0].float() / 255, few[1]
    for _ in range(30):
        model.train()
        for rows in torch.split(torch.randperm(len(labels)), 64):
            loss = nn.functional.cross_entropy(model(images[rows]), labels[rows])
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
    model.eval()
    with torch.no_grad():
        predictions = torch.cat([model(part.float() / 255).argmax(1) for part in torch.split(test[0], 256)])
    return (predictions == test[1]).float().mean().item()


def train_frozen(backbone: pk.Backbone, few: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], seed: int) -> float:
    """Train the same classifier on features in evaluation mode."""
    result = freeze_and_finetune(backbone, report_classifier(), few, test, epochs=30, seed=seed, progress=False)
    assert result.accuracy is not None
    return result.accuracy


def rotation_accuracy(task: pk.tasks.Rotation, images: Tensor) -> float:
    """Share of the four rotations of unseen images that are told right."""
    task.eval()
    with torch.no_grad():
        parts = [
            (len(part), task.step(part, torch.Generator()).metrics["accuracy"].item())
            for part in torch.split(images, 256)
        ]
    return sum(count * accuracy for count, accuracy in parts) / len(images)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="svhn")
    parser.add_argument("--epochs", type=int, default=10, help="of the ImageNet stem's pretraining")
    parser.add_argument("--small-epochs", type=int, default=12, help="of small-cnn's")
    parser.add_argument("--images", type=int, help="use so many images only, of train and of test")
    parser.add_argument("--labels", type=int, default=732)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=Path("out/why-28-percent"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    data = pk.data.load(options.data)
    print(data)
    test = (data.test_images[: options.images], data.test_labels[: options.images])

    steps: dict[str, dict[str, list[float]]] = {}
    rotation: dict[str, list[float]] = {}
    seconds: dict[str, list[float]] = {}
    for seed in options.seeds:
        chosen = pk.data.stratified_subset(data.train_labels, options.labels, seed=seed)
        few = (data.train_images[chosen], data.train_labels[chosen])

        def probe(**where: Any) -> Callable[[Any], float]:
            return lambda backbone: linear_probe(backbone, few, test, **where).accuracy  # noqa: B023

        networks: dict[str, tuple[str, dict[str, Any], int, dict[str, Callable[[Any], float]]]] = {
            "imagenet": (
                "resnet18",
                {"stem": "imagenet"},
                options.epochs,
                {
                    "as reported": lambda backbone: train_carelessly(backbone, few, test),  # noqa: B023
                    "+ evaluation mode": lambda backbone: train_frozen(backbone, few, test, seed),  # noqa: B023
                    "+ linear probe": probe(),
                    "+ every stage": probe(layers="all"),
                    "+ 2x2 pooling": probe(layers="all", pool=[1, 2]),
                },
            ),
            "small": (
                "small-cnn",
                {},
                options.small_epochs,
                {"+ a network for small images": probe(layers="all", pool=[1, 2])},
            ),
        }
        for network, (name, arguments, epochs, measures) in networks.items():
            torch.manual_seed(seed)
            backbone = pk.backbones.create(name, **arguments)
            backbone.normalization.measure(data.train_images)
            untrained = copy.deepcopy(backbone)
            task = pk.tasks.Rotation(backbone)
            result = pretrain(
                task,
                data.train_images[: options.images],
                epochs=epochs,
                batch_size=64,
                seed=seed,
                checkpoint=options.out / f"{network}-{seed}",
            )
            seconds.setdefault(network, []).append(result.history.last["seconds"])
            rotation.setdefault(network, []).append(rotation_accuracy(task, test[0]))
            for step, measure in measures.items():
                row = steps.setdefault(step, {"random init": [], "rotation": []})
                row["random init"].append(measure(untrained))
                row["rotation"].append(measure(backbone))
                print(f"seed {seed}, {step}: {row['rotation'][-1]:.1%}, random init {row['random init'][-1]:.1%}")

    report = {
        "command": shlex.join(["python", *sys.argv]),
        "data": str(data),
        "labels": options.labels,
        "seeds": options.seeds,
        "threads": torch.get_num_threads(),
        "environment": {"python": platform.python_version(), "torch": torch.__version__},
        "tables": {
            "Digits told right": {
                "columns": ["random init", "rotation"],
                "rows": {step: [row["random init"], row["rotation"]] for step, row in steps.items()},
            },
            "Pretraining": {
                "columns": ["epochs", "seconds, median of seeds", "rotations told right"],
                "rows": {
                    network: [epochs, round(median(seconds[network])), rotation[network]]
                    for network, epochs in (("imagenet", options.epochs), ("small", options.small_epochs))
                },
            },
        },
    }
    (options.out / "why-28-percent.json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
