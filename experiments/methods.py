"""All methods with their defaults on equal views: is each above random weights, and which is best?

    python experiments/methods.py --data cifar10=data/cifar10.npz svhn=data/svhn.npz --seeds 0 1 2

Each row trains one backbone with the recommended settings of its task, for as many steps as give ``--views`` views of
each image. Views count pixels through the backbone, so that small crops cost less. Then a linear probe reads every
stage, neighbors vote, and copies are fine-tuned on fractions of the labels. "random init" is not trained, "supervised"
trains on all labels for as many views. Seconds are those of the processor, which other programs disturb little.

Prints tables, and writes them to ``--out`` as JSON with a bar chart of each data set. Repeat the command to resume,
also with more tasks, seeds or data; several processes may run it at once, each on its own data, tasks or seed.
``--earlier`` takes over the rows of a report of another machine. ``mae`` needs ``--backbone vit-tiny``.
"""

from __future__ import annotations

import argparse
import copy
import time
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from _report import Rows, write_report
from _tasks import tasks_for

import pretextkit as pk
from pretextkit.comparison._cost import views_per_image
from pretextkit.comparison._resources import peak_memory, reset_peak_memory
from pretextkit.functional import freeze_and_finetune, knn_probe, linear_probe, pretrain
from pretextkit.plots import comparison

RANDOM, SUPERVISED = "random init", "supervised"
CURVE = 50
"""Rows of the history that are kept, at most."""


class Experiment:
    """The rows of one data set under one seed."""

    def __init__(self, name: str, path: str, options: argparse.Namespace, rows: Rows, seed: int) -> None:
        self.name, self.options, self.rows, self.seed = name, options, rows, seed
        self.data = pk.data.load(path)
        chosen = torch.randperm(len(self.data.train_labels), generator=torch.Generator().manual_seed(0))
        chosen = chosen[: options.images]
        self.images, self.labels = self.data.train_images[chosen], self.data.train_labels[chosen]

    def run(self) -> None:
        """Measure all rows that are missing."""
        trainings: dict[str, Callable[[], tuple[Any, dict[str, Any]]]] = {
            **{task: partial(self.pretrained, task) for task in self.options.tasks},
            RANDOM: self.random_init,
            **({SUPERVISED: self.supervised} if self.options.supervised else {}),
        }
        for method, train in trainings.items():
            self.rows.measure(f"{self.name}; {method}; {self.seed}", partial(self.measured, train))

    def measured(self, train: Callable[[], tuple[Any, dict[str, Any]]]) -> dict[str, Any]:
        """Train a backbone, and evaluate it."""
        device = torch.device("cpu")
        reset_peak_memory(device)
        begun = time.process_time()
        backbone, cost = train()
        seconds, memory = time.process_time() - begun, peak_memory(device)
        return {
            **cost,
            "seconds": seconds,
            "megabytes": None if memory is None else memory / 1e6,
            **self.evaluated(backbone.eval()),
        }

    def backbone(self) -> Any:
        """Build the backbone with which all methods start."""
        torch.manual_seed(self.seed)
        backbone = pk.backbones.create(self.options.backbone)
        backbone.normalization.measure(self.images)
        return backbone

    def random_init(self) -> tuple[Any, dict[str, Any]]:
        return self.backbone(), {"settings": "", "curve": []}

    def supervised(self) -> tuple[Any, dict[str, Any]]:
        backbone = self.backbone()
        epochs = max(1, round(self.options.views))
        result = freeze_and_finetune(
            backbone, "linear", (self.images, self.labels), epochs=epochs, seed=self.seed, device="cpu", progress=False
        )
        return backbone, cost_of(result)

    def pretrained(self, name: str) -> tuple[Any, dict[str, Any]]:
        task = pk.pretext_tasks.create(name, self.backbone())
        batch = task.recommended.batch_size_for(len(self.images))
        steps = self.options.views * len(self.images) / (views_per_image(task, self.images) * batch)
        result = pretrain(task, self.images, steps=max(1, round(steps)), seed=self.seed, device="cpu", progress=False)
        return task.backbone, cost_of(result)

    def evaluated(self, backbone: Any) -> dict[str, Any]:
        """Probe a backbone, and fine-tune copies of it."""
        labeled = (self.images, self.labels)
        probe = linear_probe(backbone, labeled, self.data.test, layers="all", seed=self.seed)
        finetuned = {}
        for fraction in self.options.labels:
            rows = pk.data.stratified_subset(self.labels, round(fraction * len(self.labels)), seed=self.seed)
            few = self.images[rows], self.labels[rows]
            result = freeze_and_finetune(
                copy.deepcopy(backbone), "linear", few, self.data.test, seed=self.seed, device="cpu", progress=False
            )
            finetuned[str(len(rows))] = result.accuracy
        return {
            "linear": probe.accuracy,
            "layer": probe.layer,
            "last": probe.layers[probe.last].accuracy,
            "knn": knn_probe(backbone, labeled, self.data.test).accuracy,
            "finetuned": finetuned,
        }


def cost_of(result: Any) -> dict[str, Any]:
    """Keep the settings of a training, and a thinned history."""
    rows = result.history.rows
    kept = rows[:: max(1, -(-len(rows) // CURVE))]
    curve = [{name: row[name] for name in ("step", "loss", "spread", "rankme") if name in row} for row in kept]
    return {"settings": str(result.settings), "curve": curve}


def tables_of(rows: Mapping[str, Any]) -> dict[str, Any]:
    """Arrange the rows: a table for each data set, sorted by the linear probe."""
    found: dict[str, dict[str, list[Any]]] = {}
    for key, row in rows.items():
        name, method, _ = key.split("; ")
        found.setdefault(name, {}).setdefault(method, []).append(row)
    tables = {}
    for name, methods in found.items():
        order = sorted(methods, key=lambda method: -mean(row["linear"] for row in methods[method]))
        counts = list(next(iter(methods.values()))[0]["finetuned"])
        tables[name] = {
            "columns": [
                *("linear, best stage", "linear, last stage", "kNN"),
                *(f"fine-tuned, {count} labels" for count in counts),
                *("training, s of CPU", "peak memory, MB", "seeds", "settings"),
            ],
            "rows": {method: _cells(methods[method], counts) for method in order},
        }
    return tables


def _cells(runs: list[Any], counts: list[str]) -> list[Any]:
    memory = [run["megabytes"] for run in runs if run["megabytes"] is not None]
    return [
        *([run[key] for run in runs] for key in ("linear", "last", "knn")),
        *([run["finetuned"][count] for run in runs] for count in counts),
        round(mean(run["seconds"] for run in runs)),
        round(max(memory)) if memory else "",
        len(runs),
        runs[0]["settings"],
    ]


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=["cifar10=cifar10"], help="name=source of pretextkit.data.load")
    parser.add_argument("--images", type=int, default=8000, help="training images of each set, at most")
    parser.add_argument("--backbone", default="small-cnn")
    parser.add_argument("--tasks", nargs="*", help="all that the backbone can train, by default")
    parser.add_argument("--views", type=float, default=125.0, help="budget: views of each image")
    parser.add_argument("--labels", type=float, nargs="*", default=[0.01, 0.1], help="fractions to fine-tune on")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--supervised", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--earlier", type=Path, help="report of this program whose rows are not measured again")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("out/methods"))
    options = parser.parse_args()
    if options.tasks is None:
        options.tasks = tasks_for(options.backbone)
    return options


def main() -> None:
    options = read_options()
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore", pk.errors.DataWarning)  # classes of few labels
    rows = Rows(
        options.out / "rows", {name: getattr(options, name) for name in ("images", "backbone", "views", "labels")}
    )
    if options.earlier is not None:
        rows.take_over(options.earlier)
    for seed in options.seeds:
        for name, path in (each.split("=", 1) for each in options.data):
            Experiment(name, path, options, rows, seed).run()
    tables = tables_of(rows.all())
    for name, table in tables.items():
        print(name, *table["columns"], sep="  ")
        for method, cells in table["rows"].items():
            texts = (
                " ".join(f"{100 * x:.1f}" for x in cell) if isinstance(cell, list) else str(cell) for cell in cells
            )
            print(f"  {method:16}", *texts, sep="  ")
        title = f"{name}, {options.views:g} views of each of {options.images} images"
        bars = comparison({method: cells[0] for method, cells in table["rows"].items()}, title=title)
        bars.savefig(options.out / f"methods-{name}.png", dpi=80, metadata={"Software": None})
    about = {"backbone": options.backbone, "views": options.views, "settings": rows.settings}
    write_report(options.out / "methods.json", " ".join(options.data), **about, tables=tables, rows=rows.all())


if __name__ == "__main__":
    main()
