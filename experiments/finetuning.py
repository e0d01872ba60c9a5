"""Does fine-tuning add to the linear probe, and what do its settings and FixMatch give? Many draws of few labels.

    python experiments/finetuning.py --data svhn=data/svhn.npz cifar10=data/cifar10.npz --draws 0 1 2 3 4

One backbone is pretrained for each data set with the defaults of a task and kept in a file. For each draw of labels,
the linear probe and every variant of the fine-tuning are scored on test images. Nothing is chosen on them: to choose,
``--held-out`` scores on training images without labels instead. Prints a table and writes it to ``--out`` as JSON.
Repeat the command to resume; several processes may run it at once.
"""

from __future__ import annotations

import argparse
import copy
import warnings
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from _report import Rows, write_report
from torch import Tensor

import pretextkit as pk
from pretextkit.functional import fixmatch, freeze_and_finetune, linear_probe, pretrain

VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "last layer": {"layers": "last"},
    "last layer, 2400 steps": {"layers": "last", "steps": 2400},
    "not averaged": {"average": 1.0},
    "mean of first and last weights": {"average": 0.5},
    "a quarter of the trained weights": {"average": 0.25},
    "half of the trained weights, learning rate 3e-3": {"average": 0.5, "learning_rate": 3e-3},
    "learning rate 3e-4": {"learning_rate": 3e-4},
    "learning rate 1e-3": {"learning_rate": 1e-3},
    "learning rate 3e-3": {"learning_rate": 3e-3},
    "layer decay 0.7": {"layer_decay": 0.7},
    "no augmentation": {"augment": None},
    "300 steps": {"steps": 300},
    "600 steps": {"steps": 600},
    "1200 steps": {"steps": 1200},
    "1800 steps": {"steps": 1800},
    "2400 steps": {"steps": 2400},
    "4800 steps": {"steps": 4800},
    "batch 64": {"batch_size": 64},
    "batch 32": {"batch_size": 32},
    "batch 32, 3000 steps": {"batch_size": 32, "steps": 3000},
    "batch 32, 900 steps": {"batch_size": 32, "steps": 900},
    "batch 32, 1200 steps": {"batch_size": 32, "steps": 1200},
    "batch 32, 3600 steps": {"batch_size": 32, "steps": 3600},
    "batch 16": {"batch_size": 16},
}
FIXMATCH = "FixMatch, with the unlabeled images"
FIXMATCHES: dict[str, dict[str, Any]] = {
    FIXMATCH: {},
    "FixMatch, learning rate 1e-3": {"learning_rate": 1e-3},
}
NONE = "none"
"""Value of ``--task`` for random weights: training on the labels alone."""
PROBE, LAST = "linear probe", "linear probe, last layer"

Labeled = tuple[Tensor, Tensor]
"""Images and their labels."""


class Experiment:
    """The rows of one data set."""

    def __init__(self, name: str, path: str, options: argparse.Namespace, rows: Rows) -> None:
        self.name, self.options, self.rows = name, options, rows
        self.data = pk.data.load(path)
        chosen = torch.randperm(len(self.data.train_labels), generator=torch.Generator().manual_seed(0))
        chosen = chosen[: options.images]
        self.images, self.labels = self.data.train_images[chosen], self.data.train_labels[chosen]

    def run(self) -> None:
        """Measure all rows that are missing."""
        backbone = self.backbone()
        for draw in self.options.draws:
            for count in self.options.labels:
                few, val = self.split(count, draw)
                self.rows.measure(f"{self.name}; {count}; {draw}", partial(self.probed, backbone, few, val))
                for variant in self.options.variants:
                    key = f"{self.name}; {count}; {draw}; {variant}"
                    self.rows.measure(key, partial(self.finetuned, backbone, few, val, variant))

    def split(self, count: int, draw: int) -> tuple[Labeled, Labeled]:
        """Draw labeled images, and return them and the images on which they are scored."""
        most = self.options.test
        rows = pk.data.stratified_subset(self.labels, count, seed=draw)
        few = self.images[rows], self.labels[rows]
        if not self.options.held_out:
            return few, (self.data.test_images[:most], self.data.test_labels[:most])
        others = torch.ones(len(self.labels), dtype=torch.bool)
        others[rows] = False
        return few, (self.images[others][:most], self.labels[others][:most])

    def backbone(self) -> Any:
        """Pretrain the backbone, or read it from its file."""
        torch.manual_seed(0)
        backbone = pk.backbones.create(self.options.backbone)
        if self.options.task == NONE:
            backbone.normalization.measure(self.images)
            return backbone.eval()
        path = self.options.out / "weights" / f"{self.name}-{self.options.task}.pt"
        if not path.exists():
            epochs = None if self.options.read is None else max(1, round(self.options.read / len(self.images)))
            pretrain(pk.pretext_tasks.create(self.options.task, backbone), self.images, epochs=epochs, progress=False)
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.save(backbone.state_dict(), path)
        backbone.load_state_dict(torch.load(path, weights_only=True))
        return backbone.eval()

    def probed(self, backbone: Any, few: Labeled, val: Labeled) -> dict[str, float]:
        """Score the linear probe and its last layer."""
        probe = linear_probe(backbone, few, val)
        return {PROBE: probe.accuracy, LAST: probe.layers[probe.last].accuracy}

    def finetuned(self, backbone: Any, few: Labeled, val: Labeled, variant: str) -> dict[str, Any]:
        """Fine-tune a copy of the backbone, or train it by FixMatch with all images."""
        copied = copy.deepcopy(backbone)
        given = {} if self.options.steps is None else {"steps": self.options.steps}
        if variant in FIXMATCHES:
            options = {**FIXMATCHES[variant], **given}
            result = fixmatch(copied, "linear", few, self.images, val, progress=False, **options)
            last = {name: result.history.last[name] for name in ("loss", "sure")}
            return {"accuracy": result.accuracy, "settings": str(result.settings), "seconds": result.seconds, **last}
        options = {**VARIANTS[variant], **given}
        result = freeze_and_finetune(copied, "linear", few, val, progress=False, **options)
        return {"accuracy": result.accuracy, "settings": str(result.settings), "seconds": result.seconds}


def tables_of(rows: Mapping[str, Any]) -> dict[str, Any]:
    """Arrange the rows: for each data set, accuracies over the draws, and differences from the probe."""
    found: dict[str, dict[str, dict[int, dict[int, float]]]] = {}
    for key, row in rows.items():
        name, count, draw, *variant = key.split("; ")
        scores = {variant[0]: row["accuracy"]} if variant else row
        for title, score in scores.items():
            found.setdefault(name, {}).setdefault(title, {}).setdefault(int(count), {})[int(draw)] = score
    tables = {}
    for name, methods in found.items():
        counts = sorted(methods[PROBE])
        columns = [f"{count} labels" for count in counts]
        columns += [f"worst against the probe, {count} labels" for count in counts]
        tables[f"Fine-tuning, {name}"] = {
            "columns": columns,
            "rows": {
                title: [
                    *([of_draw for _, of_draw in sorted(draws.get(count, {}).items())] or None for count in counts),
                    *(_worst(draws.get(count, {}), methods[PROBE][count]) for count in counts),
                ]
                for title, draws in sorted(methods.items(), key=lambda each: _order(each[0]))
            },
        }
    return tables


def _worst(scores: Mapping[int, float], probe: Mapping[int, float]) -> list[float] | None:
    """Return the smallest difference from the probe on the same draw."""
    return [min(scores[draw] - probe[draw] for draw in scores)] if scores else None


def _order(title: str) -> int:
    titles = [PROBE, LAST, *VARIANTS, *FIXMATCHES]
    return titles.index(title)


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=["svhn=svhn"], help="name=source of pretextkit.data.load")
    parser.add_argument("--images", type=int, default=8000, help="training images of each set, at most")
    parser.add_argument("--test", type=int, default=2000, help="images on which to score, at most")
    parser.add_argument("--held-out", action="store_true", help="score on training images without labels, to choose by")
    parser.add_argument("--backbone", default="small-cnn")
    parser.add_argument("--task", default="rotation", help=f"pretext task; '{NONE}' for random weights")
    parser.add_argument("--read", type=int, help="images that the pretraining reads; by default the library's number")
    parser.add_argument("--labels", type=int, nargs="+", default=[100, 732])
    parser.add_argument("--draws", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--variants", nargs="+", choices=[*VARIANTS, *FIXMATCHES], default=["default"])
    parser.add_argument("--steps", type=int, help="steps of a fine-tuning; by default the library's number")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("out/finetuning"))
    return parser.parse_args()


def main() -> None:
    options = read_options()
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore", pk.errors.DataWarning)
    asked = ("images", "test", "held_out", "backbone", "task", "read", "steps")
    rows = Rows(options.out / "rows", {name: getattr(options, name) for name in asked})
    for name, path in (each.split("=", 1) for each in options.data):
        Experiment(name, path, options, rows).run()
    tables = tables_of(rows.all())
    for title, table in tables.items():
        print(title)
        for row, cells in table["rows"].items():
            print(f"  {row:26}", *(f"{100 * mean(cell):6.1f}" if cell else f"{'':6}" for cell in cells))
    write_report(options.out / "finetuning.json", " ".join(options.data), tables=tables)


if __name__ == "__main__":
    main()
