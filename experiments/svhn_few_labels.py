"""Few labels on street digits: how much pretext tasks help a classifier with 100 to 2,000 labels.

    python experiments/svhn_few_labels.py --data data/svhn.npz

prints tables and writes them to ``--out`` as JSON. ``--data`` takes any source of ``pretextkit.data.load``: ``svhn``,
which torchvision downloads, an ``.npz`` file with ``train_images`` and so on, or a folder. Repeat the command to
resume. Several processes can share the work, each with its own seeds; the last one writes the tables of all.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from _redraw import add_redraw
from _report import Rows, write_report
from few_labels_tables import by_method, formatted, save_plots, tables_of
from torch import Tensor, nn

import pretextkit as pk
from pretextkit.functional import fixmatch, freeze_and_finetune, linear_probe, pretrain
from pretextkit.views import CropAndRecolor, LightAugmentation

AUGMENT = LightAugmentation()
TASKS: dict[str, tuple[str, dict[str, Any]]] = {
    "rotation": ("rotation", {}),
    "jigsaw-context": ("jigsaw-context", {}),
    # No flip: mirrored digits do not occur. Large crops: a small crop can lose the digit.
    "simclr": ("simclr", {"temperature": 0.2, "augmentation": CropAndRecolor(crop_scale=(0.4, 1.0))}),
}
BUDGET: dict[str, dict[str, Any]] = {
    "rotation": {"epochs": 24, "batch_size": 64},
    "jigsaw-context": {"epochs": 12, "batch_size": 64},
    "simclr": {"epochs": 24, "batch_size": 256},
}


class SideBySide(pk.SpatialBackbone):
    """Concatenate the stages of two backbones along the channels."""

    def __init__(self, first: pk.SpatialBackbone, second: pk.SpatialBackbone) -> None:
        super().__init__()
        self.first, self.second = first, second
        self.feature_dim = first.feature_dim + second.feature_dim

    def stages(self, images: Tensor) -> tuple[Tensor, ...]:
        pairs = zip(self.first.stages(images), self.second.stages(images), strict=True)
        return tuple(torch.cat(pair, dim=1) for pair in pairs)


class Experiment:
    """All rows of one seed."""

    def __init__(self, options: argparse.Namespace, data: Any, rows: Rows, seed: int) -> None:
        self.options, self.data, self.rows, self.seed = options, data, rows, seed
        self.main, self.classes = options.main, len(data.class_names)
        self.backbones: dict[str, Any] = {}

    def row(self, method: str, labels: int, measure: Callable[..., dict[str, Any]], *arguments: Any) -> None:
        """Measure one row, unless an earlier command has finished it."""
        value = self.rows.measure(f"{method}; {labels}; {self.seed}", lambda: measure(*arguments))
        print(f"seed {self.seed}, {method}, {labels} labels: {value.get('accuracy', 0):.1%}", flush=True)

    def few(self, labels: int) -> tuple[Tensor, Tensor]:
        """Choose the labeled training images."""
        chosen = pk.data.stratified_subset(self.data.train_labels, labels, seed=self.seed)
        return self.data.train_images[chosen], self.data.train_labels[chosen]

    def new_backbone(self) -> Any:
        """Create the backbone, with the same weights for every row of a seed."""
        torch.manual_seed(self.seed)
        stem = {"stem": self.options.stem} if self.options.backbone == "resnet18" else {}
        backbone = pk.backbones.create(self.options.backbone, **stem)
        backbone.normalization.measure(self.data.train_images)
        return backbone

    def without_pretraining(self) -> None:
        """Measure the references: random init, supervised training and FixMatch."""
        for labels in self.options.labels:
            self.row("random init, linear probe", labels, self.probe, self.new_backbone(), labels)
            self.row("supervised, augmented", labels, self.finetune, self.new_backbone(), labels)
        self.row("supervised", self.main, self.finetune, self.new_backbone(), self.main, None)
        everything = len(self.data.train_labels)
        self.row("supervised, augmented", everything, self.finetune, self.new_backbone(), everything, AUGMENT, 4)
        longer = "supervised, augmented, 4 times as long"
        self.row(longer, self.main, self.finetune, self.new_backbone(), self.main, AUGMENT, 4)
        self.row("FixMatch", self.main, self.fixmatch, self.new_backbone())

    def pretrained(self, name: str) -> None:
        """Pretrain one task and measure its rows."""
        kind, arguments = TASKS[name]
        task = pk.pretext_tasks[kind](self.new_backbone(), **arguments)
        budget = dict(BUDGET[name])
        budget["epochs"] = self.options.epochs or budget["epochs"]
        folder = self.options.out / "runs" / f"{name}-{self.seed}"
        images = self.data.train_images[: self.options.images]
        result = pretrain(task, images, **budget, seed=self.seed, checkpoint=folder)
        self.row(f"{name}, pretraining", 0, lambda: {**result.history.last, **self.rotation_accuracy(task)})
        self.evaluate(name, task.backbone)
        if name == self.options.curve:
            longer = f"{name}, fine-tuned 4 times as long"
            self.row(longer, self.main, self.finetune, copy.deepcopy(task.backbone), self.main, AUGMENT, 4)
            self.row(f"{name}, FixMatch", self.main, self.fixmatch, copy.deepcopy(task.backbone))
            longer = f"{name}, FixMatch 4 times as long"
            self.row(longer, self.main, self.fixmatch, copy.deepcopy(task.backbone), 4)

    def evaluate(self, name: str, backbone: Any) -> None:
        """Measure a pretrained backbone with every number of labels."""
        self.backbones[name] = backbone
        for labels in self.options.labels if name in TASKS else [self.main]:
            self.row(f"{name}, linear probe", labels, self.probe, backbone, labels)
            if labels == self.main or name == self.options.curve:
                self.row(f"{name}, fine-tuned", labels, self.finetune, copy.deepcopy(backbone), labels)
        self.row(f"{name}, two-layer head", self.main, self.frozen, backbone)

    def concatenated(self, first: str, second: str) -> None:
        """Evaluate the concatenated features of two tasks, if both were pretrained."""
        if {first, second} <= set(self.backbones):
            self.evaluate(f"{first} and {second}", SideBySide(self.backbones[first], self.backbones[second]))

    def rotation_accuracy(self, task: Any) -> dict[str, Any]:
        """Return the rotation accuracy on all test images and for each class; nothing for other tasks."""
        if not isinstance(task, pk.tasks.Rotation):
            return {}
        task.eval()
        images, labels = self.data.test
        of_class = [
            task.step(images[labels == label], torch.Generator()).metrics["accuracy"].item()
            for label in range(self.classes)
        ]
        counts = torch.bincount(labels).tolist()
        total = sum(accuracy * count for accuracy, count in zip(of_class, counts, strict=True)) / len(labels)
        return {"accuracy": total, "classes": of_class}

    def probe(self, backbone: Any, labels: int) -> dict[str, Any]:
        result = linear_probe(backbone, self.few(labels), self.data.test, layers="all", pool=[1, 2, 4])
        layers = {name: score.accuracy for name, score in result.layers.items()}
        return {"accuracy": result.accuracy, "layer": result.layer, "layers": layers}

    def finetune(self, backbone: Any, labels: int, view: Any = AUGMENT, times: int = 1) -> dict[str, Any]:
        """Fine-tune the head, then all weights; the number of steps does not depend on the number of labels."""
        head = pk.heads["linear"](backbone.feature_dim, self.classes)
        epochs = max(1, round(times * self.options.steps * 64 / labels))
        result = freeze_and_finetune(
            backbone,
            head,
            self.few(labels),
            self.data.test,
            trainable="all",
            epochs=epochs,
            augment=view,
            seed=self.seed,
        )
        return {"accuracy": result.accuracy, "seconds": result.seconds}

    def frozen(self, backbone: Any) -> dict[str, Any]:
        """Train the report's classifier (66,954 parameters on 512 features) on the features of the last stage."""
        head = nn.Sequential(nn.Linear(backbone.feature_dim, 128), nn.ReLU(), nn.Linear(128, self.classes))
        few = self.few(self.main)
        result = freeze_and_finetune(backbone, head, few, self.data.test, trainable="none", epochs=30, seed=self.seed)
        return {"accuracy": result.accuracy, "seconds": result.seconds}

    def fixmatch(self, backbone: Any, times: int = 1) -> dict[str, Any]:
        """Train with FixMatch on the labels and on all training images."""
        steps = 2 * self.options.steps * times
        result = fixmatch(
            backbone,
            "linear",
            self.few(self.main),
            self.data.train_images[: self.options.images],
            self.data.test,
            steps=steps,
            learning_rate=2e-3,
            augment=AUGMENT,
            seed=self.seed,
            checkpoint=self.options.out / "runs" / f"FixMatch-{steps}-{self.seed}" if times > 1 else None,
        )
        assert result.predictions is not None
        return {"accuracy": result.accuracy, "seconds": result.seconds, "predictions": result.predictions.tolist()}


def described(option: Any) -> Any:
    """Convert an option to JSON: a function to its name, and an augmentation to its text."""
    return option if isinstance(option, int | float) else getattr(option, "__name__", str(option))


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="svhn")
    parser.add_argument("--backbone", default="small-cnn")
    parser.add_argument("--stem", default="small", help="stem of resnet18")
    parser.add_argument("--tasks", nargs="*", choices=["none", *TASKS], default=["none", *TASKS])
    parser.add_argument("--labels", type=int, nargs="+", default=[100, 250, 732, 2000])
    parser.add_argument("--main", type=int, default=732, help="number of labels of every row")
    parser.add_argument("--curve", default="rotation", help="task to fine-tune with every number of labels")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--images", type=int, help="number of images to pretrain on; all by default")
    parser.add_argument("--epochs", type=int, help="epochs of pretraining, for every task")
    parser.add_argument("--steps", type=int, default=600, help="steps of every fine-tuning, 64 images each")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=Path("out/svhn-few-labels"))
    add_redraw(parser)
    return parser.parse_args()


def main() -> None:
    options = read_options()
    if options.redraw:
        save_plots(options.redraw)
        return
    torch.set_num_threads(options.threads)
    options.labels = sorted({*options.labels, options.main})
    data = pk.data.load(options.data)
    print(data)
    asked = ("data", "backbone", "stem", "images", "epochs", "steps")
    rows = Rows(options.out / "rows", {name: getattr(options, name) for name in asked})
    for seed in options.seeds:
        experiment = Experiment(options, data, rows, seed)
        for name in options.tasks:
            if name == "none":
                experiment.without_pretraining()
            else:
                experiment.pretrained(name)
        experiment.concatenated("rotation", "simclr")

    tables = tables_of(by_method(rows), options.labels, options.main)
    for title, table in tables.items():
        widths = [max(15, len(column) + 2) for column in table["columns"]]
        for heading, cells in [(f"\n{title}, %", table["columns"]), *table["rows"].items()]:
            texts = [formatted(cell).rjust(width) for cell, width in zip(cells, widths, strict=True)]
            print(f"{heading:50}" + "".join(texts))
    report = options.out / "svhn-few-labels.json"
    write_report(
        report,
        data,
        backbone=options.backbone,
        seeds=options.seeds,
        budget={
            name: {key: described(value) for key, value in (TASKS[name][1] | BUDGET[name]).items()} for name in TASKS
        },
        tables=tables,
    )
    save_plots(report)


if __name__ == "__main__":
    main()
