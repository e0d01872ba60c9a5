"""Pretrain without labels, then learn to classify with 100 labels; beside the same network without pretraining.

    pip install "pretextkit[plot]" && python examples/quickstart.py

runs on the embedded sample of Fashion-MNIST in a few minutes. It prints a table of test accuracies, and writes to
``--out``: the table as JSON, the accuracies as bars, and the views of each task.
"""

from __future__ import annotations

import argparse
import json
import platform
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import torch

import pretextkit as pk
from pretextkit.functional import freeze_and_finetune, knn_probe, linear_probe, pretrain

LABELS = 100
TASKS = {"rotation": 2, "simclr": 3}  # epochs, few of them for a quick start
COLUMNS = ["Linear probe", "Linear probe, last stage", "kNN", "Fine-tuned", "Pretraining, s"]


def evaluate(backbone: Any, few: Any, test: Any) -> list[float]:
    """Classify test images by frozen features, then by a fine-tuned network."""
    probe = linear_probe(backbone, few, test)
    neighbors = knn_probe(backbone, few, test)
    tuned = freeze_and_finetune(backbone, "linear", few, test)
    assert tuned.accuracy is not None
    return [probe.accuracy, probe.layers[probe.last].accuracy, neighbors.accuracy, tuned.accuracy]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="sample", help="any source of pretextkit.data.load")
    parser.add_argument("--out", type=Path, default=Path("out/quickstart"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()

    data = pk.data.load(options.data)
    chosen = pk.data.stratified_subset(data.train_labels, LABELS)
    few = data.train_images[chosen], data.train_labels[chosen]
    print(data)

    torch.manual_seed(0)
    backbone = pk.backbones["small-cnn"]()
    backbone.normalization.measure(data.train_images)
    rows: dict[str, list[Any]] = {"no pretraining": [*evaluate(backbone, few, data.test), ""]}

    for name, epochs in TASKS.items():
        torch.manual_seed(0)
        task = pk.pretext_tasks[name](pk.backbones["small-cnn"]())
        result = pretrain(task, data.train_images, epochs=epochs)
        print(f"{name}: {result}")
        views = task.views(data.train_images[:32].float() / 255, torch.Generator().manual_seed(0))
        pk.plots.views(views, label_names=task.label_names).savefig(options.out / f"quickstart-views-{name}.png")
        rows[name] = [*evaluate(task.backbone, few, data.test), f"{result.seconds:.0f}"]

    print(f"\n{LABELS} labels{'':10}", *(f"{column:>24}" for column in COLUMNS))
    for name, cells in rows.items():
        print(f"{name:20}", *(f"{cell:24.1%}" if isinstance(cell, float) else f"{cell:>24}" for cell in cells))
    bars = {f"{name}, {kind}": rows[name][column] for name in rows for kind, column in (("frozen", 0), ("tuned", 3))}
    figure = pk.plots.comparison(bars, title=f"{data.name}, {LABELS} labels", baselines=["no pretraining"])
    figure.savefig(options.out / "quickstart-bars.png")
    report = {
        "command": shlex.join(["python", *sys.argv]),
        "data": str(data),
        "labels": LABELS,
        "seconds": time.monotonic() - begun,
        "tables": {"": {"columns": COLUMNS, "rows": rows}},
        "environment": {
            "pretextkit": pk.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "threads": torch.get_num_threads(),
        },
    }
    (options.out / "quickstart.json").write_text(json.dumps(report, indent=1) + "\n")
    print(f"\n{report['seconds']:.0f} s in total; the table as JSON and the figures are in {options.out}")


if __name__ == "__main__":
    main()
