"""Defaults beside a grid of settings: for every task and several kinds of images, is the plain call good enough?

    python experiments/defaults.py --data svhn=data/svhn.npz cifar10=data/cifar10.npz

Each row pretrains one backbone and reads it by a linear probe, by nearest neighbors and, for defaults and the best of
the grid, by fine-tuning, all of them with default options. The best of the grid is chosen on training images that have
no label, and reported on test. The row "random init" has no pretraining. Prints tables and writes them to ``--out`` as
JSON. Repeat the command to resume, also with more tasks or data; several processes may run it at once, each on its own
data or tasks. ``--earlier`` takes over the rows of a report of another machine.
"""

from __future__ import annotations

import argparse
import copy
import inspect
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from _report import Rows, write_report
from torch import Tensor

import pretextkit as pk
from pretextkit.functional import freeze_and_finetune, knn_probe, linear_probe, pretrain
from pretextkit.inference import Classifier
from pretextkit.tasks import MultiCrop
from pretextkit.views import CropAndRecolor, LightAugmentation

HELD_OUT = 4000
"""Unlabeled training images on which the best of the grid is chosen, at most."""

STRONGER = LightAugmentation(crop_scale=(0.3, 1.0), jitter=1.0)
DEFAULT, RANDOM = "default", "random init"


@dataclass(frozen=True)
class Variant:
    """Settings that differ from the default call."""

    rate: float = 1.0
    """Factor on the learning rate."""
    batch: float = 1.0
    """Factor on the batch size."""
    options: tuple[tuple[str, Any], ...] = ()
    """Options of the task."""


GENERAL = {
    DEFAULT: Variant(),
    "learning rate x 3": Variant(rate=3),
    "learning rate / 3": Variant(rate=1 / 3),
    "batch x 2": Variant(batch=2),
    "batch / 2": Variant(batch=1 / 2),
    "learning rate x 3, batch x 2": Variant(rate=3, batch=2),
    "learning rate / 3, batch / 2": Variant(rate=1 / 3, batch=1 / 2),
}
AUGMENTED = {
    "no augmentation": Variant(options=(("augmentation", None),)),
    "stronger augmentation": Variant(options=(("augmentation", STRONGER),)),
    "with flips": Variant(options=(("augmentation", LightAugmentation(flip=0.5)),)),
}
TEMPERATURE = {
    "temperature 0.1": Variant(options=(("temperature", 0.1),)),
    "temperature 0.5": Variant(options=(("temperature", 0.5),)),
}
TWO_VIEWS = {
    "with flips": Variant(options=(("augmentation", CropAndRecolor(flip=0.5)),)),
    "crops from 40 %": Variant(options=(("augmentation", CropAndRecolor(crop_scale=(0.4, 1.0))),)),
}
WITH_TEMPERATURE = ("simclr", "moco-v3", "nnclr")
TASKS = (
    "rotation",
    "simclr",
    "jigsaw-context",
    "jigsaw",
    "denoising",
    "autoencoder",
    "context-encoder",
    "colorization",
)


def variants(task: str, asked: Sequence[str]) -> dict[str, Variant]:
    """Return the grid of a task by name."""
    augmentation = inspect.signature(pk.pretext_tasks[task]).parameters["augmentation"].default
    if isinstance(augmentation, MultiCrop):
        grid = GENERAL
    elif isinstance(augmentation, CropAndRecolor):
        grid = GENERAL | TWO_VIEWS | (TEMPERATURE if task in WITH_TEMPERATURE else {})
    else:
        grid = GENERAL | AUGMENTED
    return {name: variant for name, variant in grid.items() if name == DEFAULT or not asked or name in asked}


@dataclass(frozen=True)
class Images:
    """A data set: unlabeled images, and labeled ones to draw from."""

    name: str
    unlabeled: Tensor
    labeled: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]

    @classmethod
    def load(cls, name: str, path: str, most: int) -> Images:
        """Load a data set; one whose training images have one class is split in half, as defect or not."""
        data = pk.data.load(path)
        rows = torch.randperm(len(data.train_labels), generator=torch.Generator().manual_seed(0))[:most]
        images, labels = data.train_images[rows], data.train_labels[rows]
        if len(torch.unique(labels)) > 1:
            return cls(name, images, (images, labels), data.test)
        defect = (data.test_labels > 0).long()
        half = pk.data.stratified_subset(defect, len(defect) // 2, seed=0)
        other = torch.ones(len(defect), dtype=torch.bool)
        other[half] = False
        return cls(name, images, (data.test_images[half], defect[half]), (data.test_images[other], defect[other]))

    def few(self, count: int, seed: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Choose labeled training images, and others to compare settings on."""
        images, labels = self.labeled
        chosen = pk.data.stratified_subset(labels, count, seed=seed)
        rest = torch.ones(len(labels), dtype=torch.bool)
        rest[chosen] = False
        others = torch.nonzero(rest)[:, 0]
        others = others[torch.randperm(len(others), generator=torch.Generator().manual_seed(seed))[:HELD_OUT]]
        return (images[chosen], labels[chosen]), (images[others], labels[others])


class Experiment:
    """The rows of one data set under one seed."""

    def __init__(self, data: Images, options: argparse.Namespace, rows: Rows, seed: int) -> None:
        self.data, self.options, self.rows, self.seed = data, options, rows, seed
        most = len(data.labeled[1])
        self.labels = [count for count in options.labels if count < most] or [most // 2]

    def run(self) -> None:
        """Measure all rows that are missing."""
        self.rows.measure(self.key(RANDOM, DEFAULT), lambda: self.evaluate(self.backbone(measured=True)))
        for task in self.options.tasks:
            found = {
                name: self.rows.measure(self.key(task, name), partial(self.pretrained, task, variant))
                for name, variant in variants(task, self.options.variants).items()
            }
            best = max(found, key=lambda name: found[name][str(self.labels[-1])]["held_out"])
            for name in {DEFAULT: 0, best: 0} if self.options.finetune else ():
                weights = self.weights(task, name)
                key = f"fine-tuned; {self.key(task, name)}"
                self.rows.measure(key, partial(self.finetuned, weights))

    def key(self, task: str, variant: str) -> str:
        return f"{self.data.name}; {task}; {variant}; {self.seed}"

    def weights(self, task: str, variant: str) -> Path:
        name = self.key(task, variant).replace("; ", "-").replace(" ", "_").replace("/", "by").replace("%", "")
        path: Path = self.options.out / "weights" / f"{name}.pt"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def backbone(self, measured: bool = False) -> Any:
        torch.manual_seed(self.seed)
        backbone = pk.backbones.create(self.options.backbone)
        if measured:
            backbone.normalization.measure(self.data.unlabeled)
        return backbone

    def pretrained(self, task: str, variant: Variant) -> dict[str, Any]:
        """Pretrain a backbone and evaluate it."""
        images = self.data.unlabeled
        module = pk.pretext_tasks.create(task, self.backbone(), **dict(variant.options))
        own: dict[str, Any] = {}
        if variant.rate != 1:
            own["learning_rate"] = module.recommended.learning_rate * variant.rate
        if variant.batch != 1:
            own["batch_size"] = round(module.recommended.batch_size_for(len(images)) * variant.batch)
        if self.options.read:
            own["epochs"] = max(1, round(self.options.read / len(images)))
        result = pretrain(module, images, **own, seed=self.seed, progress=False)
        return {
            "settings": str(result.settings),
            "seconds": result.seconds,
            "training": result.history.last,
            **self.evaluate(module.backbone, self.weights(task, self.name_of(task, variant))),
        }

    def name_of(self, task: str, variant: Variant) -> str:
        return next(name for name, each in variants(task, []).items() if each == variant)

    def evaluate(self, backbone: Any, path: Path | None = None) -> dict[str, Any]:
        """Probe a backbone with every number of labels."""
        if path is not None:
            torch.save(backbone.state_dict(), path)
        found = {}
        for count in self.labels:
            few, others = self.data.few(count, self.seed)
            probe = linear_probe(backbone, few, self.data.test)
            found[str(count)] = {
                "held_out": _accuracy(probe.classifier, *others),
                "linear": probe.accuracy,
                "last": probe.layers[probe.last].accuracy,
                "layer": probe.layer,
                "knn": knn_probe(backbone, few, self.data.test).accuracy,
            }
        return found

    def finetuned(self, path: Path) -> dict[str, Any]:
        """Fine-tune a pretrained backbone with every number of labels, and probe its last layer for comparison."""
        found = {}
        for count in self.labels:
            few, _ = self.data.few(count, self.seed)
            backbone = self.backbone()
            backbone.load_state_dict(torch.load(path, weights_only=True))
            result = freeze_and_finetune(copy.deepcopy(backbone), "linear", few, self.data.test, progress=False)
            last = linear_probe(backbone, few, self.data.test, layers="last")
            found[str(count)] = {
                "accuracy": result.accuracy,
                "last": last.accuracy,
                "settings": str(result.settings),
                "seconds": result.seconds,
            }
        return found


def _accuracy(classifier: Classifier, images: Tensor, labels: Tensor) -> float:
    return float((classifier.predict_proba(images).argmax(1) == labels).double().mean())


def tables_of(rows: Mapping[str, Any], seeds: Sequence[int]) -> dict[str, Any]:
    """Arrange the rows: for each data set, the defaults beside the best of the grid; then every variant."""
    found: dict[str, dict[str, dict[str, dict[int, Any]]]] = {}
    for key, row in rows.items():
        if not key.startswith("fine-tuned; "):
            name, task, variant, seed = key.split("; ")
            found.setdefault(name, {}).setdefault(task, {}).setdefault(variant, {})[int(seed)] = row
    tables = {}
    for name, tasks in found.items():
        counts = [count for count in next(iter(tasks[RANDOM][DEFAULT].values())) if count.isdigit()]
        columns = [
            heading
            for count in counts
            for heading in (f"linear, {count}", f"best of grid, {count}", f"last, {count}", f"kNN, {count}")
        ]
        columns += [f"fine-tuned, {count}" for count in counts] + ["best of grid", "defaults"]
        tables[f"Defaults, {name}"] = {
            "columns": columns,
            "rows": {task: _summary(rows, name, task, grid, counts) for task, grid in sorted(tasks.items())},
        }
        tables[f"Every variant, {name}"] = {
            "columns": [f"linear, {counts[-1]}", f"held out, {counts[-1]}", "settings"],
            "rows": {
                f"{task}, {variant}": [
                    [row[counts[-1]]["linear"] for row in of_seeds.values()],
                    [row[counts[-1]]["held_out"] for row in of_seeds.values()],
                    next(iter(of_seeds.values())).get("settings", ""),
                ]
                for task, grid in sorted(tasks.items())
                for variant, of_seeds in grid.items()
            },
        }
    return tables


def _summary(
    rows: Mapping[str, Any], name: str, task: str, grid: Mapping[str, Any], counts: Sequence[str]
) -> list[Any]:
    default, best = grid[DEFAULT], {}
    for seed in default:
        of_seed = {variant: runs[seed] for variant, runs in grid.items() if seed in runs}
        best[seed] = max(of_seed, key=lambda variant: of_seed[variant][counts[-1]]["held_out"])
    cells: list[Any] = []
    for count in counts:
        cells.append([row[count]["linear"] for row in default.values()])
        cells.append([grid[best[seed]][seed][count]["linear"] for seed in default])
        cells += [[row[count][key] for row in default.values()] for key in ("last", "knn")]
    for count in counts:
        keys = [f"fine-tuned; {name}; {task}; {DEFAULT}; {seed}" for seed in default]
        cells.append([rows[key][count]["accuracy"] for key in keys if key in rows] or None)
    return [*cells, ", ".join(dict.fromkeys(best.values())), next(iter(default.values())).get("settings", "")]


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=["svhn=svhn"], help="name=source of pretextkit.data.load")
    parser.add_argument("--images", type=int, default=8000, help="training images of each set, at most")
    parser.add_argument("--backbone", default="small-cnn")
    parser.add_argument("--tasks", nargs="*", choices=list(pk.pretext_tasks), default=list(TASKS))
    parser.add_argument("--variants", nargs="*", default=[], help="some of the grid; all by default")
    parser.add_argument("--labels", type=int, nargs="+", default=[100, 732])
    parser.add_argument(
        "--read", type=int, help="images that a pretraining reads; by default as many as the library reads"
    )
    parser.add_argument("--finetune", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--earlier", type=Path, help="report of this program whose rows are not measured again")
    parser.add_argument("--out", type=Path, default=Path("out/defaults"))
    return parser.parse_args()


def main() -> None:
    options = read_options()
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore", pk.errors.DataWarning)
    asked = ("images", "backbone", "labels", "read")
    rows = Rows(options.out / "rows", {name: getattr(options, name) for name in asked})
    if options.earlier is not None:
        rows.take_over(options.earlier)
    for seed in options.seeds:
        for name, path in (each.split("=", 1) for each in options.data):
            Experiment(Images.load(name, path, options.images), options, rows, seed).run()
    tables = tables_of(rows.all(), options.seeds)
    for title, table in tables.items():
        print(title)
        for row, cells in table["rows"].items():
            print(f"  {row:40}", *(_text(cell) for cell in cells), sep="  ")
    budget = f"{options.read} images read" if options.read else "the library's budget"
    content = {"settings": rows.settings, "rows": rows.all()}
    write_report(options.out / "defaults.json", " ".join(options.data), budget=budget, tables=tables, **content)


def _text(cell: Any) -> str:
    return " ".join(f"{100 * value:.1f}" for value in cell) if isinstance(cell, list) else str(cell or "")


if __name__ == "__main__":
    main()
