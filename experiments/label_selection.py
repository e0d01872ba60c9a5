"""Which images to label first? Methods of selection, by linear probes, fine-tuning and FixMatch on what they choose.

    python experiments/label_selection.py --data cifar10 --task simclr --epochs 60
    python experiments/label_selection.py --data svhn --weights simclr.pt --finetune 10 40 100 --fixmatch 40

Each draw chooses the largest number of labels once, and its beginnings serve as the smaller numbers: a selection is
ordered. Stratified random sampling needs all labels, and is no method that a user has; it shows what a perfect balance
of the classes is worth. Nothing is tuned on labels. A repeated command continues where it stopped, and commands for
several sets with one ``--out`` join their tables.
"""

from __future__ import annotations

import argparse
import copy
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
from _report import Rows, write_report
from torch import Tensor, nn

import pretextkit as pk
from pretextkit.functional import (
    extract_features,
    fixmatch,
    freeze_and_finetune,
    linear_probe,
    pretrain,
    select_to_label,
)

METHODS = ("random", "stratified random", "k-center", "k-means++", "typiclust", "probcover")
FINETUNED, FIXMATCH = "fine-tuned", "FixMatch"

Labeled = tuple[Tensor, Tensor]
"""Images and their labels."""


class Experiment:
    """All rows of one set."""

    def __init__(self, options: argparse.Namespace, rows: Rows) -> None:
        self.options, self.rows = options, rows
        self.data = pk.data.load(options.data)
        generator = torch.Generator().manual_seed(0)
        pool = torch.randperm(len(self.data.train_images), generator=generator)[: options.images]
        self.images, self.labels = self.data.train_images[pool], self.data.train_labels[pool]
        self.backbone = self.load_backbone()
        self.pool_features, self.test_features = (
            extract_features(self.backbone, images, layers=options.layers)[0]
            for images in (self.images, self.data.test_images)
        )

    def load_backbone(self) -> Any:
        """Build the backbone, and load its weights or pretrain it on the pool."""
        options = self.options
        torch.manual_seed(0)
        backbone = pk.backbones[options.backbone](in_channels=self.images.shape[1])
        if options.weights:
            backbone.load_state_dict(torch.load(options.weights, weights_only=True))
            return backbone
        task = pk.pretext_tasks[options.task](backbone)
        print(
            pretrain(
                task, self.images, epochs=options.epochs, checkpoint=options.out / "runs" / Path(options.data).stem
            )
        )
        return backbone

    def order(self, method: str, draw: int, number: int) -> Tensor:
        """Choose images of the pool to label."""
        if method == "stratified random":
            return pk.data.stratified_subset(self.labels, number, seed=draw)
        features = self.pool_features[self.options.layers[0]]
        return select_to_label(features, number, method=method, seed=draw).indices

    def probe(self, method: str, draw: int) -> dict[str, Any]:
        """Measure the linear probe of every layer with every number of labels."""
        most, found = max(self.options.labels), {}
        order = None if method == "stratified random" else self.order(method, draw, most)
        for number in self.options.labels:
            rows = self.order(method, draw, number) if order is None else order[:number]
            found[str(number)] = {
                "classes": len(torch.unique(self.labels[rows])),
                **{layer: self.accuracy(layer, rows) for layer in self.options.layers},
            }
        return found

    def accuracy(self, layer: str, rows: Tensor) -> float | None:
        """Probe one layer; classes without a label count as errors, and one class alone has no probe."""
        if len(torch.unique(self.labels[rows])) < 2:
            return None
        labels, known, targets = self.renumbered(rows)
        train, test = (self.pool_features[layer][rows], labels), (self.test_features[layer][known], targets)
        return linear_probe(nn.Identity(), train, test).accuracy * known.float().mean().item()

    def renumbered(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Number the classes that have labels: labels of ``rows``, test images of these classes, and their labels."""
        classes = torch.unique(self.labels[rows])
        known = torch.isin(self.data.test_labels, classes)
        labels, targets = (
            torch.searchsorted(classes, each) for each in (self.labels[rows], self.data.test_labels[known])
        )
        return labels, known, targets

    def finetuned(self, method: str, number: int, draw: int) -> dict[str, Any]:
        """Fine-tune a copy of the backbone on the chosen labels."""
        train, test, share = self.chosen(method, number, draw)
        backbone, steps = copy.deepcopy(self.backbone), self.options.steps
        result = freeze_and_finetune(backbone, "linear", train, test, steps=steps, seed=draw, progress=False)
        assert result.accuracy is not None
        return {"accuracy": result.accuracy * share, "seconds": result.seconds}

    def fixmatch(self, method: str, number: int, draw: int) -> dict[str, Any]:
        """Train with FixMatch on the chosen labels and the pool."""
        train, test, share = self.chosen(method, number, draw)
        run = self.options.out / "runs" / f"{Path(self.options.data).stem}-{method}-{number}-{draw}"
        backbone, steps = copy.deepcopy(self.backbone), self.options.steps
        result = fixmatch(backbone, "linear", train, self.images, test, steps=steps, seed=draw, checkpoint=run)
        assert result.accuracy is not None
        return {"accuracy": result.accuracy * share, "seconds": result.seconds, "sure": result.history.last["sure"]}

    def chosen(self, method: str, number: int, draw: int) -> tuple[Labeled, Labeled, float]:
        """Return chosen images with labels, test images of their classes, and the share of these in all."""
        rows = self.order(method, draw, number)
        labels, known, targets = self.renumbered(rows)
        test = self.data.test_images[known], targets
        return (self.images[rows], labels), test, known.float().mean().item()

    def run(self) -> None:
        """Measure all rows that are missing."""
        data = Path(self.options.data).stem
        start = (
            self.options.weights.name if self.options.weights else f"{self.options.task}, {self.options.epochs} epochs"
        )
        if (before := self.rows.measure(f"{data}; start", lambda: start)) != start:
            raise SystemExit(f"The rows of {data} began from {before}, not from {start}. Give another --out.")
        for draw in range(self.options.draws):
            for method in self.options.methods:
                self.rows.measure(f"{data}; {method}; {draw}", partial(self.probe, method, draw))
        trainings = (
            (FINETUNED, self.finetuned, self.options.finetune),
            (FIXMATCH, self.fixmatch, self.options.fixmatch),
        )
        for title, train, numbers in trainings:
            for number, draw, method in product(numbers, range(self.options.trained_draws), self.options.methods):
                name = f"{data}; {method}; {title}; {number}; {draw}"
                self.rows.measure(name, partial(train, method, number, draw))


def tables_of(rows: dict[str, Any], labels: list[int], layers: list[str]) -> dict[str, Any]:
    """Arrange the rows: accuracy of each method by number of labels, one value for each draw."""
    tables: dict[str, Any] = {}
    for name, row in rows.items():
        data, method, *rest = name.split("; ")
        if method == "start":
            continue
        if rest[0] in (FINETUNED, FIXMATCH):
            table = tables.setdefault(f"{data}: {rest[0]}", {"columns": [], "rows": {}})
            column = f"{rest[1]} labels"
            table["columns"] = sorted({*table["columns"], column}, key=lambda text: int(text.split()[0]))
            table["rows"].setdefault(method, {}).setdefault(column, []).append(row["accuracy"])
            continue
        for layer in layers:
            columns = [f"{number} labels" for number in labels]
            table = tables.setdefault(f"{data}: linear probe of {layer}", {"columns": columns, "rows": {}})
            for number in labels:
                if (accuracy := row[str(number)][layer]) is not None:
                    table["rows"].setdefault(method, {}).setdefault(f"{number} labels", []).append(accuracy)
    for table in tables.values():
        table["rows"] = {
            method: [cells.get(column) for column in table["columns"]] for method, cells in table["rows"].items()
        }
    return tables


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="cifar10", help="any source of pretextkit.data.load")
    parser.add_argument("--images", type=int, default=10_000, help="training images among which is chosen, at most")
    parser.add_argument("--backbone", default="small-cnn")
    parser.add_argument("--weights", type=Path, help="state of a pretrained backbone; by default it is pretrained here")
    parser.add_argument("--task", default="simclr", choices=list(pk.pretext_tasks))
    parser.add_argument("--epochs", type=int, default=60, help="epochs of pretraining")
    parser.add_argument("--labels", type=int, nargs="+", default=[10, 40, 100, 250])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--layers", nargs="+", default=["last"], help="the selection uses the first")
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--finetune", type=int, nargs="*", default=[], help="numbers of labels for fine-tuning")
    parser.add_argument("--fixmatch", type=int, nargs="*", default=[], help="numbers of labels for FixMatch")
    parser.add_argument("--trained-draws", type=int, default=3, help="draws of fine-tuning and of FixMatch")
    parser.add_argument("--steps", type=int, help="steps of both; by default those of the library")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("out/label-selection"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    settings = {name: getattr(options, name) for name in ("images", "backbone", "labels", "layers", "steps")}
    rows = Rows(options.out / "rows", settings)
    experiment = Experiment(options, rows)
    experiment.run()
    found = rows.all()
    starts = {name.split("; ")[0]: start for name, start in found.items() if name.endswith("; start")}
    tables = tables_of(found, options.labels, options.layers)
    for title, table in tables.items():
        print(title, *(f"  {method}: {cells}" for method, cells in table["rows"].items()), sep="\n")
    write_report(
        options.out / "label-selection.json",
        experiment.data,
        **settings,
        starts=starts,
        draws=options.draws,
        tables=tables,
    )


if __name__ == "__main__":
    main()
