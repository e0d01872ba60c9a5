"""
Methods side by side
====================

Bars are sorted. Hatched ones are baselines: an untrained network, and one trained with all labels. Read a difference
against the error bars, which are the standard deviation over seeds. The numbers are those of the committed experiment
on CIFAR-10; for a comparison of your own, ``compare(...).accuracies("linear")`` is the mapping to draw.
"""

import json
from pathlib import Path

from pretextkit import plots

runs = json.loads(Path("../figures/cifar10-comparison.json").read_text())["comparison"]["runs"]
accuracies = {run["method"]: [] for run in runs}
for run in runs:
    accuracies[run["method"]].append(run["linear"])
plots.comparison(accuracies, chance=1 / 10, title="CIFAR-10, linear probe of the best stage")
