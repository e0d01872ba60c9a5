"""Few labels on street digits: what pretext tasks give a classifier that has 100 to 2,000 labels.

    python experiments/svhn_few_labels.py --data data/svhn.npz

prints a table and leaves it in ``--out`` as JSON. ``--data`` takes anything that ``pretextkit.data.load``
takes: ``svhn``, which torchvision downloads, an ``.npz`` file with ``train_images`` and so on, or a folder. Whatever is
finished is kept: repeat the command to go on where it was stopped. Several processes may share the work, each with
seeds of its own; the last one writes the table of all.
"""

from __future__ import annotations

import argparse
import copy
import json
import platform
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor, nn

import pretextkit as pk
from pretextkit import plots
from pretextkit.functional import freeze_and_finetune, linear_probe, pretrain
from pretextkit.views import color_jitter, hide_pixels, mask_blocks, random_grayscale, random_resized_crop


def augment(images: Tensor, generator: Generator) -> Tensor:
    """Crop and recolor."""
    images = random_resized_crop(images, scale=(0.5, 1.0), generator=generator)
    return color_jitter(images, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, generator=generator)


TASKS: dict[str, tuple[str, dict[str, Any]]] = {
    "rotation": ("rotation", {}),
    "jigsaw-context": ("jigsaw-context", {}),
    # Digits are never mirrored, and a crop must not cut off what tells them apart.
    "simclr": ("simclr", {"flip": 0.0, "temperature": 0.2, "crop_scale": (0.4, 1.0)}),
}
BUDGET: dict[str, dict[str, Any]] = {
    "rotation": {"epochs": 24, "batch_size": 64, "augment": augment},
    "jigsaw-context": {"epochs": 12, "batch_size": 64, "augment": augment},
    "simclr": {"epochs": 24, "batch_size": 256},
}


class SideBySide(pk.SpatialBackbone):
    """Two backbones as one, of which each stage has the channels of both."""

    def __init__(self, one: pk.SpatialBackbone, other: pk.SpatialBackbone) -> None:
        super().__init__()
        self.one, self.other = one, other
        self.feature_dim = one.feature_dim + other.feature_dim

    def stages(self, images: Tensor) -> tuple[Tensor, ...]:
        pairs = zip(self.one.stages(images), self.other.stages(images), strict=True)
        return tuple(torch.cat(pair, dim=1) for pair in pairs)


class LabeledAndTwoViews(NamedTuple):
    """Labeled images, and a weak and a strong view of others."""

    images: Tensor
    labels: Tensor
    weak: Tensor
    strong: Tensor


class FixMatch(pk.PretextTask[LabeledAndTwoViews]):
    """The reference beside the pretext tasks: what a weak view is surely, the strong view must be (arXiv 2001.07685).

    Without the moving average of the weights that the paper evaluates.
    """

    labeled: Tensor
    labels: Tensor

    def __init__(self, backbone: pk.Backbone, head: nn.Module, images: Tensor, labels: Tensor) -> None:
        super().__init__(backbone)
        self.head = head
        self.register_buffer("labeled", images)
        self.register_buffer("labels", labels)

    def views(self, images: Tensor, generator: Generator) -> LabeledAndTwoViews:
        rows = torch.randint(len(self.labels), (64,), generator=generator)
        return LabeledAndTwoViews(
            augment(self.labeled[rows].float() / 255, generator),
            self.labels[rows],
            random_resized_crop(images, scale=(0.75, 1.0), ratio=(0.9, 1.1), generator=generator),
            self._strong(images, generator),
        )

    def forward(self, batch: LabeledAndTwoViews) -> pk.TaskOutput:
        with torch.no_grad():
            surety, guess = self.head(self.backbone(batch.weak)).float().softmax(1).max(1)
        logits = self.head(self.backbone(torch.cat([batch.images, batch.strong]))).float()
        known, strong = logits.split([len(batch.images), len(batch.strong)])
        sure = (surety >= 0.95).float()
        consistency = (nn.functional.cross_entropy(strong, guess, reduction="none") * sure).mean()
        loss = nn.functional.cross_entropy(known, batch.labels) + consistency
        return pk.TaskOutput(loss, {"sure": sure.mean()})

    def _strong(self, images: Tensor, generator: Generator) -> Tensor:
        view = random_resized_crop(images, scale=(0.4, 1.0), generator=generator)
        view = color_jitter(view, brightness=0.6, contrast=0.6, saturation=0.6, hue=0.2, generator=generator)
        view = random_grayscale(view, 0.2, generator=generator)
        return hide_pixels(view, mask_blocks(view, count=1, side=0.4, generator=generator))


class Work:
    """What is measured for one seed; what was measured before is not measured again."""

    def __init__(self, options: argparse.Namespace, data: Any, seed: int) -> None:
        self.options, self.data, self.seed = options, data, seed
        self.main, self.classes = options.main, len(data.class_names)
        self.backbones: dict[str, Any] = {}

    def cell(self, row: str, labels: int, measure: Callable[..., dict[str, Any]], *arguments: Any) -> None:
        path = self.options.out / "cells" / f"{row}; {labels}; {self.seed}.json"
        if not path.exists():
            value = measure(*arguments)
            path.with_suffix(".part").write_text(json.dumps(value))
            path.with_suffix(".part").rename(path)
            print(f"seed {self.seed}, {row}, {labels} labels: {value.get('accuracy', 0):.1%}", flush=True)

    def few(self, labels: int) -> tuple[Tensor, Tensor]:
        chosen = pk.data.stratified_subset(self.data.train_labels, labels, seed=self.seed)
        return self.data.train_images[chosen], self.data.train_labels[chosen]

    def new_backbone(self) -> Any:
        torch.manual_seed(self.seed)
        stem = {"stem": self.options.stem} if self.options.backbone == "resnet18" else {}
        backbone = pk.backbones.create(self.options.backbone, **stem)
        backbone.normalization.measure(self.data.train_images)
        return backbone

    def without_pretraining(self) -> None:
        for labels in self.options.labels:
            self.cell("random init, linear probe", labels, self.probe, self.new_backbone(), labels)
            self.cell("supervised, augmented", labels, self.finetune, self.new_backbone(), labels)
        self.cell("supervised", self.main, self.finetune, self.new_backbone(), self.main, None)
        everything = len(self.data.train_labels)
        self.cell("supervised, augmented", everything, self.finetune, self.new_backbone(), everything, augment, 4)
        longer = "supervised, augmented, 4 times as long"
        self.cell(longer, self.main, self.finetune, self.new_backbone(), self.main, augment, 4)
        self.cell("FixMatch", self.main, self.fixmatch, self.new_backbone())

    def pretrained(self, name: str) -> None:
        kind, arguments = TASKS[name]
        task = pk.pretext_tasks[kind](self.new_backbone(), **arguments)
        budget = dict(BUDGET[name])
        budget["epochs"] = self.options.epochs or budget["epochs"]
        folder = self.options.out / "runs" / f"{name}-{self.seed}"
        images = self.data.train_images[: self.options.images]
        result = pretrain(task, images, **budget, seed=self.seed, checkpoint=folder)
        self.cell(f"{name}, pretraining", 0, lambda: {**result.history.last, **self.on_test(task)})
        self.evaluated(name, task.backbone)
        if name == self.options.curve:
            longer = f"{name}, fine-tuned 4 times as long"
            self.cell(longer, self.main, self.finetune, copy.deepcopy(task.backbone), self.main, augment, 4)
            self.cell(f"{name}, FixMatch", self.main, self.fixmatch, copy.deepcopy(task.backbone))
            longer = f"{name}, FixMatch 4 times as long"
            self.cell(longer, self.main, self.fixmatch, copy.deepcopy(task.backbone), 4)

    def evaluated(self, name: str, backbone: Any) -> None:
        self.backbones[name] = backbone
        for labels in self.options.labels if name in TASKS else [self.main]:
            self.cell(f"{name}, linear probe", labels, self.probe, backbone, labels)
            if labels == self.main or name == self.options.curve:
                self.cell(f"{name}, fine-tuned", labels, self.finetune, copy.deepcopy(backbone), labels)
        self.cell(f"{name}, two-layer head", self.main, self.frozen, backbone)

    def together(self, one: str, other: str) -> None:
        """Put the features of two tasks side by side, if both were learned in this call or before."""
        if {one, other} <= set(self.backbones):
            self.evaluated(f"{one} and {other}", SideBySide(self.backbones[one], self.backbones[other]))

    def on_test(self, task: Any) -> dict[str, Any]:
        """Measure a task's own accuracy on test images, and on those of every class."""
        if not isinstance(task, pk.tasks.Rotation):
            return {}
        task.eval()
        images, labels = self.data.test
        of_class = [
            task.step(images[labels == label], torch.Generator()).metrics["accuracy"].item()
            for label in range(self.classes)
        ]
        counts = torch.bincount(labels).tolist()
        total = sum(share * count for share, count in zip(of_class, counts, strict=True)) / len(labels)
        return {"accuracy": total, "classes": of_class}

    def probe(self, backbone: Any, labels: int) -> dict[str, Any]:
        result = linear_probe(backbone, self.few(labels), self.data.test, layers="all", pool=[1, 2, 4])
        layers = {name: score.accuracy for name, score in result.layers.items()}
        return {"accuracy": result.accuracy, "layer": result.layer, "layers": layers}

    def finetune(self, backbone: Any, labels: int, view: Any = augment, times: int = 1) -> dict[str, Any]:
        """Train all weights, after the head alone, for as many steps whatever the number of labels."""
        head = pk.heads["linear"](backbone.feature_dim, self.classes)
        epochs = max(1, round(times * self.options.steps * 64 / labels))
        result = freeze_and_finetune(
            backbone,
            head,
            self.few(labels),
            self.data.test,
            trainable="all",
            head_epochs=max(1, epochs // 10),
            epochs=epochs,
            augment=view,
            seed=self.seed,
        )
        return {"accuracy": result.accuracy, "seconds": result.seconds}

    def frozen(self, backbone: Any) -> dict[str, Any]:
        """Train the report's classifier (66,954 parameters on 512 features) on the features of the last stage."""
        head = nn.Sequential(nn.Linear(backbone.feature_dim, 128), nn.ReLU(), nn.Linear(128, self.classes))
        result = freeze_and_finetune(backbone, head, self.few(self.main), self.data.test, epochs=30, seed=self.seed)
        return {"accuracy": result.accuracy, "seconds": result.seconds}

    def fixmatch(self, backbone: Any, times: int = 1) -> dict[str, Any]:
        head = pk.heads["linear"](backbone.feature_dim, self.classes)
        few = self.few(self.main)
        freeze_and_finetune(backbone, head, few, epochs=10, seed=self.seed)  # the head meets the features first
        task = FixMatch(backbone, head, *few)
        steps = 2 * self.options.steps * times
        images = self.data.train_images[: self.options.images]
        folder = self.options.out / "runs" / f"FixMatch-{steps}-{self.seed}" if times > 1 else None
        run = pretrain(task, images, steps=steps, batch_size=192, learning_rate=2e-3, seed=self.seed, checkpoint=folder)
        predictions = classify(nn.Sequential(task.backbone, task.head), self.data.test_images)
        right = (predictions == self.data.test_labels).float().mean().item()
        return {"accuracy": right, "seconds": run.seconds, "predictions": predictions.tolist()}


def classify(model: nn.Module, images: Tensor) -> Tensor:
    model.eval()
    with torch.no_grad():
        return torch.cat([model(part.float() / 255).argmax(1) for part in torch.split(images, 256)])


def collected(cells: Path) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Read all that was measured: row, number of labels, one value for each seed."""
    rows: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for path in sorted(cells.glob("*.json")):
        row, labels, _ = path.stem.split("; ")
        rows.setdefault(row, {}).setdefault(labels, []).append(json.loads(path.read_text()))
    return rows


def tables_of(found: dict[str, dict[str, list[dict[str, Any]]]], labels: Sequence[int], main: int) -> dict[str, Any]:
    """Lay out what was measured: shares, one for each seed."""

    def accuracies(row: str, number: int) -> list[float] | None:
        return [cell["accuracy"] for cell in found[row].get(str(number), [])] or None

    probes = {row: found[row][str(main)] for row in found if row.endswith("linear probe") and str(main) in found[row]}
    layers = list(next(iter(probes.values()))[0]["layers"]) if probes else []
    own = {row.split(",")[0]: cells["0"] for row, cells in found.items() if "0" in cells}
    rotations = {name: cells for name, cells in own.items() if "classes" in cells[0]}
    classes = max((len(cells[0]["classes"]) for cells in rotations.values()), default=0)
    numbers = sorted({*labels, *(int(number) for cells in found.values() for number in cells)} - {0})
    return {
        "Accuracy by number of labels": {
            "columns": [f"{number} labels" for number in numbers],
            "rows": {row: [accuracies(row, number) for number in numbers] for row in found if "0" not in found[row]},
        },
        f"Linear probe of every layer, {main} labels": {
            "columns": [row.split(",")[0] for row in probes],
            "rows": {
                layer: [[cell["layers"][layer] for cell in cells] for cells in probes.values()] for layer in layers
            },
        },
        "Rotations told right, test images": {
            "columns": list(rotations),
            "rows": {
                "all": [[cell["accuracy"] for cell in cells] for cells in rotations.values()],
                **{
                    f"class {label}": [[cell["classes"][label] for cell in cells] for cells in rotations.values()]
                    for label in range(classes)
                },
            },
        },
        "Cost of pretraining": {
            "columns": ["seconds, median of seeds"],
            "rows": {name: [round(median(cell["seconds"] for cell in cells))] for name, cells in own.items()},
        },
    }


def shown(cell: Any) -> str:
    """Write shares of several seeds as a mean and a standard deviation, in percent."""
    if not isinstance(cell, list):
        return "" if cell is None else str(cell)
    return f"{100 * mean(cell):.1f}" + (f" ± {100 * stdev(cell):.1f}" if len(cell) > 1 else "") if cell else ""


def save_pictures(tables: dict[str, Any], labels: Sequence[int], main: int, out: Path) -> None:
    by_labels, _, rotations, _ = tables.values()
    numbers = [int(column.split()[0]) for column in by_labels["columns"]]
    curves = {
        row: {number: cell for number, cell in zip(numbers, cells, strict=True) if cell}
        for row, cells in by_labels["rows"].items()
        if all(cell for number, cell in zip(numbers, cells, strict=True) if number in labels)
    }
    at_main = {row: cells[numbers.index(main)] for row, cells in by_labels["rows"].items()}
    pictures = {
        "curve": plots.label_efficiency(curves, title="Test accuracy by number of labels"),
        "bars": plots.comparison({row: cell for row, cell in at_main.items() if cell}, title=f"{main} labels"),
    }
    if rotations["columns"]:
        told = {row: cells[0] for row, cells in rotations["rows"].items()}
        pictures["rotations"] = plots.comparison(told, title="Rotations told right, by class")
    for name, figure in pictures.items():
        figure.savefig(out / f"svhn-few-labels-{name}.png", dpi=80, bbox_inches="tight")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="svhn")
    parser.add_argument("--backbone", default="small-cnn")
    parser.add_argument("--stem", default="small", help="of resnet18")
    parser.add_argument("--tasks", nargs="*", choices=["none", *TASKS], default=["none", *TASKS])
    parser.add_argument("--labels", type=int, nargs="+", default=[100, 250, 732, 2000])
    parser.add_argument("--main", type=int, default=732, help="labels that every row is measured with")
    parser.add_argument("--curve", default="rotation", help="the task that is fine-tuned with every number of labels")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--images", type=int, help="pretrain on so many images only")
    parser.add_argument("--epochs", type=int, help="of every task's pretraining, in place of its own number")
    parser.add_argument("--steps", type=int, default=600, help="of every fine-tuning, 64 images each")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=Path("out/svhn-few-labels"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.labels = sorted({*options.labels, options.main})
    (options.out / "cells").mkdir(parents=True, exist_ok=True)

    data = pk.data.load(options.data)
    print(data)
    for seed in options.seeds:
        work = Work(options, data, seed)
        for name in options.tasks:
            if name == "none":
                work.without_pretraining()
            else:
                work.pretrained(name)
        work.together("rotation", "simclr")

    tables = tables_of(collected(options.out / "cells"), options.labels, options.main)
    for title, table in tables.items():
        widths = [max(15, len(column) + 2) for column in table["columns"]]
        for heading, cells in [(f"\n{title}, %", table["columns"]), *table["rows"].items()]:
            texts = [shown(cell).rjust(width) for cell, width in zip(cells, widths, strict=True)]
            print(f"{heading:50}" + "".join(texts))
    report = {
        "command": shlex.join(["python", *sys.argv]),
        "data": str(data),
        "backbone": options.backbone,
        "seeds": options.seeds,
        "threads": options.threads,
        "environment": {"python": platform.python_version(), "torch": torch.__version__},
        "budget": {
            name: {key: getattr(value, "__name__", value) for key, value in (TASKS[name][1] | BUDGET[name]).items()}
            for name in TASKS
        },
        "tables": tables,
    }
    (options.out / "svhn-few-labels.json").write_text(json.dumps(report, indent=1) + "\n")
    save_pictures(tables, options.labels, options.main, options.out)


if __name__ == "__main__":
    main()
