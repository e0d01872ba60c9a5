"""
Accuracy by number of labels
============================

What a pretext task adds shows where labels are few. The legend lists the lines from top to bottom at their right ends;
gray dotted lines are baselines. The numbers are those of the committed experiment on CIFAR-10; for a comparison of
your own, ``compare(...).label_efficiency()`` is the mapping to draw.
"""

import json
from pathlib import Path

from pretextkit import plots

runs = json.loads(Path("../figures/cifar10-comparison.json").read_text())["comparison"]["runs"]
lines = {run["method"]: {int(labels): [] for labels in run["finetuned"]} for run in runs}
for run in runs:
    for labels, accuracy in run["finetuned"].items():
        lines[run["method"]][int(labels)].append(accuracy)
plots.label_efficiency(lines, chance=1 / 10, title="CIFAR-10, fine-tuned")
