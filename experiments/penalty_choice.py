"""Compare two rules that choose the penalty of a linear probe: held-out accuracy and held-out log loss.

    python experiments/penalty_choice.py --data data/svhn.npz data/cifar10.npz --epochs 0 4

Both rules see the same folds of the same labels. The accuracy, the log loss and the calibration error are measured on
training images without labels; the test images are not used. The features are the last stage of ``small-cnn`` with
random weights and, for epochs above 0, after rotation pretraining on 8,000 other images of the set.
"""

from __future__ import annotations

import argparse
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from _report import Rows, write_report
from torch import Tensor
from torch.nn.functional import cross_entropy
from torchmetrics.functional.classification import multiclass_calibration_error

import pretextkit as pk
from pretextkit.evaluation._logistic_classifier import PENALTIES, folds
from pretextkit.evaluation._solvers._logistic import fit_logistic
from pretextkit.functional import extract_features, pretrain

SCORED = 2000
"""Images that are only scored."""
COUNTS = (50, 100, 400)
"""Numbers of labels."""


def backbone_of(data: pk.data.ImageData, epochs: int, weights: Path) -> pk.SpatialBackbone:
    """Return random weights, or pretrain; trained weights are kept in a file."""
    torch.manual_seed(0)
    backbone = pk.models.SmallCNN()
    if not epochs:
        backbone.normalization.measure(data.train_images)
        return backbone
    if not weights.exists():
        pretrain(pk.tasks.Rotation(backbone), data.train_images[-8000:], epochs=epochs, batch_size=64)
        torch.save(backbone.state_dict(), weights)
    backbone.load_state_dict(torch.load(weights, weights_only=True))
    return backbone


def compare_rules(features: Tensor, labels: Tensor, count: int, draw: int) -> dict[str, dict[str, float]]:
    """Choose the penalty by both rules on ``count`` labels, and score both classifiers on the last images."""
    pool = len(labels) - SCORED
    rows = pk.data.stratified_subset(labels[:pool], count, seed=draw)
    targets, classes = labels[rows], int(labels.max()) + 1
    center, scale = features[rows].mean(0), features[rows].std(0, correction=0).clamp(min=1e-6)
    known, scored = (features[rows] - center) / scale, (features[pool:] - center) / scale
    penalties = torch.tensor(PENALTIES)
    hits, losses = torch.zeros(len(penalties)), torch.zeros(len(penalties))
    for heldout in folds(targets, draw):
        fit = torch.ones(count, dtype=torch.bool)
        fit[heldout] = False
        logits = fit_logistic(known[fit], targets[fit], classes, penalties, max_steps=60).logits(known[heldout])
        hits += (logits.argmax(2) == targets[heldout]).sum(1)
        losses += torch.stack([cross_entropy(each, targets[heldout], reduction="sum") for each in logits])
    grid = range(len(penalties))
    by_accuracy = max(grid, key=lambda i: (hits[i].item(), -losses[i].item()))
    chosen = {"accuracy": by_accuracy, "log loss": min(grid, key=lambda i: losses[i].item())}
    return {rule: scores(known, targets, scored, labels[pool:], penalties[i]) for rule, i in chosen.items()}


def scores(known: Tensor, targets: Tensor, scored: Tensor, truth: Tensor, penalty: Tensor) -> dict[str, float]:
    """Fit one penalty to all labels, and measure its predictions."""
    classes = int(truth.max()) + 1
    logits = fit_logistic(known, targets, classes, penalty[None]).logits(scored)[0]
    return {
        "accuracy": (logits.argmax(1) == truth).double().mean().item(),
        "log loss": cross_entropy(logits, truth).item(),
        "calibration error": multiclass_calibration_error(logits.softmax(1), truth, classes).item(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=["svhn", "cifar10"])
    parser.add_argument("--epochs", nargs="+", type=int, default=[0, 4], help="epochs of rotation; 0: random weights")
    parser.add_argument("--draws", type=int, default=15, help="draws of the labels")
    parser.add_argument("--out", type=Path, default=Path("out/penalty-choice"))
    options = parser.parse_args()
    rows = Rows(options.out / "rows", {"draws": options.draws})
    table: dict[str, list[str]] = {}
    for name, epochs in product(options.data, options.epochs):
        data = pk.data.load(name)
        title = f"{Path(name).stem}, {f'rotation, {epochs} epochs' if epochs else 'random weights'}"
        backbone = backbone_of(data, epochs, options.out / f"{Path(name).stem}-{epochs}.pt")
        features, labels = extract_features(backbone, (data.train_images[:4000], data.train_labels[:4000]))
        assert labels is not None
        for count in COUNTS:

            def measure(count: int = count, features: Any = features, labels: Tensor = labels) -> Any:
                return [compare_rules(features["last"], labels, count, draw) for draw in range(options.draws)]

            found = rows.measure(f"{title}, {count} labels", measure)
            table[f"{title}, {count} labels"] = cells(found)
            print(title, count, *cells(found), flush=True)
    columns = ["Accuracy, %: by accuracy, by log loss", "Log loss", "Calibration error"]
    write_report(
        options.out / "penalty-choice.json",
        f"training images of {', '.join(Path(name).stem for name in options.data)}",
        draws=options.draws,
        rows=rows.all(),
        tables={"Penalty chosen by accuracy, by log loss": {"columns": columns, "rows": table, "corner": "Features"}},
    )


def cells(found: list[dict[str, dict[str, float]]]) -> list[str]:
    """Format the means over the draws of each measure under both rules."""

    def pair(measure: str, factor: float, digits: int) -> str:
        values = (mean(each[rule][measure] for each in found) for rule in ("accuracy", "log loss"))
        return ", ".join(f"{factor * value:.{digits}f}" for value in values)

    return [pair("accuracy", 100, 1), pair("log loss", 1, 2), pair("calibration error", 1, 2)]


if __name__ == "__main__":
    main()
