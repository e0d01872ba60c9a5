"""What does a linear probe cost by default, from 100 to 50,000 labels?

    python experiments/probe_cost.py --data data/cifar10.npz

Backbones with random weights are probed with the defaults of ``linear_probe``, on as many labels as given, and scored
on all test images. Seconds are those of the processor, which other programs disturb little; ``forward pass`` is a pass
of the same images through the network alone. Prints a table, and writes it to ``--out`` as JSON. Repeat the command to
resume.
"""

from __future__ import annotations

import argparse
import time
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import torch
from _report import Rows, write_report

import pretextkit as pk
from pretextkit.functional import extract_features, linear_probe

COLUMNS = ["CPU seconds", "of these, forward pass", "candidates", "width of the widest", "accuracy, %"]


def measure(name: str, data: pk.data.ImageData, count: int) -> dict[str, Any]:
    """Probe a backbone on ``count`` labels."""
    torch.manual_seed(0)
    backbone = pk.backbones.create(name).eval()
    rows = pk.data.stratified_subset(data.train_labels, count, seed=0)
    few = data.train_images[rows], data.train_labels[rows]
    begun = time.process_time()
    for images in (few[0], data.test_images):
        extract_features(backbone, images, layers="last")
    passed = time.process_time()
    probe = linear_probe(backbone, few, data.test)
    layers = {each: score for each, score in probe.layers.items() if each != probe.layer or "+" not in each}
    return {
        "seconds": time.process_time() - passed,
        "forward": passed - begun,
        "candidates": len(layers),
        "width": max(score.feature_dim for score in layers.values()),
        "accuracy": probe.accuracy,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="cifar10", help="source of pretextkit.data.load")
    parser.add_argument("--backbones", nargs="+", default=["small-cnn"])
    parser.add_argument("--labels", type=int, nargs="+", default=[100, 732, 5000, 50_000])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("out/probe-cost"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore", pk.errors.DataWarning)  # classes without a hit
    data = pk.data.load(options.data)
    rows = Rows(options.out / "rows", {"data": data.name, "threads": options.threads})
    table = {}
    for name in options.backbones:
        for count in options.labels:
            found = rows.measure(f"{name}, {count:,} labels", partial(measure, name, data, count))
            cells = [f"{found[key]:.1f}" for key in ("seconds", "forward")]
            cells += [f"{found[key]:,}" for key in ("candidates", "width")]
            table[f"{name}, {count:,} labels"] = [*cells, f"{100 * found['accuracy']:.1f}"]
            print(name, count, *table[f"{name}, {count:,} labels"], flush=True)
    tables = {"Cost of a linear probe": {"columns": COLUMNS, "rows": table, "corner": "backbone, labels"}}
    write_report(options.out / "probe-cost.json", data, threads=options.threads, tables=tables)


if __name__ == "__main__":
    main()
