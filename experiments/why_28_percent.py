"""Why rotation features gave 28 percent on street digits: reproduce the failure, then remove one cause at a time.

    python experiments/why_28_percent.py --data data/svhn.npz

A ResNet-18 with the ImageNet stem learns the rotations of 32x32 digits without labels; then 732 labels train a
classifier on its frozen features. Every row of the table adds one change to the row before; the first column has the
same row with random weights. ``--data`` takes any source of ``pretextkit.data.load``. Repeat the command to resume.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from _report import Rows, write_report
from torch import Tensor, nn

import pretextkit as pk
from pretextkit.functional import freeze_and_finetune, linear_probe, pretrain


def report_classifier() -> nn.Module:
    """Return the classifier of the report: 512-128-10, 66,954 parameters."""
    return nn.Sequential(nn.Linear(512, 128), nn.ReLU(), nn.Linear(128, 10))


def train_carelessly(backbone: pk.Backbone, few: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]) -> float:
    """Train a classifier on "frozen" features with a common mistake: no gradient, but the backbone in training mode.

    BatchNorm then normalizes by the batch and its running statistics drift; the features differ in evaluation mode.
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
    result = freeze_and_finetune(
        backbone, report_classifier(), few, test, trainable="none", epochs=30, seed=seed, progress=False
    )
    assert result.accuracy is not None
    return result.accuracy


def rotation_accuracy(task: pk.tasks.Rotation, images: Tensor) -> float:
    """Return the accuracy of the rotation task on unseen images."""
    task.eval()
    with torch.no_grad():
        parts = [
            (len(part), task.step(part, torch.Generator()).metrics["accuracy"].item())
            for part in torch.split(images, 256)
        ]
    return sum(count * accuracy for count, accuracy in parts) / len(images)


Measure = Callable[[Any], float]
"""From a backbone to the accuracy of a classifier of its features."""


class Experiment:
    """The data and the options of all rows."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.data = pk.data.load(options.data)
        self.test = (self.data.test_images[: options.images], self.data.test_labels[: options.images])

    def measures(self, network: str, seed: int) -> dict[str, Measure]:
        """Return the rows that are measured on a network."""
        chosen = pk.data.stratified_subset(self.data.train_labels, self.options.labels, seed=seed)
        few = (self.data.train_images[chosen], self.data.train_labels[chosen])

        def probe(**options: Any) -> Measure:
            return lambda backbone: linear_probe(backbone, few, self.test, **options).accuracy

        if network == "small":
            return {"+ a network for small images": probe(layers="all", pool=[1, 2])}
        return {
            "as reported": lambda backbone: train_carelessly(backbone, few, self.test),
            "+ evaluation mode": lambda backbone: train_frozen(backbone, few, self.test, seed),
            "+ linear probe": probe(),
            "+ every stage": probe(layers="all"),
            "+ 2x2 pooling": probe(layers="all", pool=[1, 2]),
        }

    def measure(self, network: str, seed: int) -> dict[str, Any]:
        """Pretrain one network and measure its rows before and after."""
        name, arguments, epochs = self.networks[network]
        torch.manual_seed(seed)
        backbone = pk.backbones.create(name, **arguments)
        backbone.normalization.measure(self.data.train_images)
        untrained = copy.deepcopy(backbone)
        task = pk.tasks.Rotation(backbone)
        images = self.data.train_images[: self.options.images]
        folder = self.options.out / f"{network}-{seed}"
        result = pretrain(task, images, epochs=epochs, batch_size=64, seed=seed, checkpoint=folder)
        held_out = rotation_accuracy(task, self.test[0])
        steps = {}
        for step, measure in self.measures(network, seed).items():
            steps[step] = {"random init": measure(untrained), "rotation": measure(backbone)}
            print(f"  {step}: {steps[step]['rotation']:.1%}, random init {steps[step]['random init']:.1%}", flush=True)
        return {"seconds": result.history.last["seconds"], "rotation accuracy": held_out, "steps": steps}

    @property
    def networks(self) -> dict[str, tuple[str, dict[str, Any], int]]:
        """Backbone, its options and the epochs of its pretraining."""
        return {
            "imagenet": ("resnet18", {"stem": "imagenet"}, self.options.epochs),
            "small": ("small-cnn", {}, self.options.small_epochs),
        }


def tables_of(runs: dict[str, list[dict[str, Any]]], experiment: Experiment) -> dict[str, Any]:
    """Arrange the measurements of each network, one for each seed."""
    columns = ("random init", "rotation")
    return {
        "Digit accuracy": {
            "columns": list(columns),
            "rows": {
                step: [[run["steps"][step][column] for run in of_seeds] for column in columns]
                for of_seeds in runs.values()
                for step in of_seeds[0]["steps"]
            },
        },
        "Pretraining": {
            "columns": ["epochs", "seconds, median of seeds", "rotation accuracy"],
            "rows": {
                network: [
                    experiment.networks[network][2],
                    round(median(run["seconds"] for run in of_seeds)),
                    [run["rotation accuracy"] for run in of_seeds],
                ]
                for network, of_seeds in runs.items()
            },
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="svhn")
    parser.add_argument("--epochs", type=int, default=10, help="epochs of pretraining, ImageNet stem")
    parser.add_argument("--small-epochs", type=int, default=12, help="epochs of pretraining, small-cnn")
    parser.add_argument("--images", type=int, help="number of training and of test images; all by default")
    parser.add_argument("--labels", type=int, default=732)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=Path("out/why-28-percent"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    experiment = Experiment(options)
    print(experiment.data)
    asked = ("data", "labels", "images", "epochs", "small_epochs")
    rows = Rows(options.out / "rows", {name: getattr(options, name) for name in asked})
    runs = {
        network: [
            rows.measure(f"{network}; {seed}", partial(experiment.measure, network, seed)) for seed in options.seeds
        ]
        for network in experiment.networks
    }
    write_report(
        options.out / "why-28-percent.json",
        experiment.data,
        labels=options.labels,
        seeds=options.seeds,
        tables=tables_of(runs, experiment),
    )


if __name__ == "__main__":
    main()
