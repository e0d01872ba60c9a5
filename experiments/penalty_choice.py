"""Compare two rules that choose the penalty of a linear probe: held-out accuracy and held-out log loss.

    python experiments/penalty_choice.py --data data/svhn.npz data/cifar10.npz --epochs 0 4

Both rules see the same folds of the same labels. The accuracy, the log loss and the calibration error are measured on
training images without labels; the test images are not used. The features are the last stage of ``small-cnn`` with
random weights and, for epochs above 0, after rotation pretraining on 8,000 other images of the set.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
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
from pretextkit.evaluation._calibration import best_scale
from pretextkit.evaluation._logistic_classifier import PENALTIES, folds
from pretextkit.evaluation._solvers._logistic import fit_logistic
from pretextkit.functional import extract_features, pretrain

SCORED = 2000
"""Images that are only scored."""
COUNTS = (50, 100, 400)
"""Numbers of labels."""
RULES = ("accuracy", "log loss", "accuracy, scaled", "log loss after scaling")


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
    """Choose the penalty by every rule on ``count`` labels, and score the classifiers on the last images."""
    pool = len(labels) - SCORED
    rows = pk.data.stratified_subset(labels[:pool], count, seed=draw)
    targets, classes = labels[rows], int(labels.max()) + 1
    center, scale = features[rows].mean(0), features[rows].std(0, correction=0).clamp(min=1e-6)
    known, scored = (features[rows] - center) / scale, (features[pool:] - center) / scale
    penalties = torch.tensor(PENALTIES)
    heldout = torch.zeros(len(penalties), count, classes)
    for fold in folds(targets, draw):
        fit = torch.ones(count, dtype=torch.bool)
        fit[fold] = False
        heldout[:, fold] = fit_logistic(known[fit], targets[fit], classes, penalties, max_steps=60).logits(known[fold])
    logits = fit_logistic(known, targets, classes, penalties).logits(scored)
    return {rule: scores(logits[i] * scale, labels[pool:]) for rule, (i, scale) in chosen(heldout, targets).items()}


def chosen(heldout: Tensor, targets: Tensor) -> dict[str, tuple[int, float]]:
    """Return the number of the penalty, and the scale of the logits, by every rule on the held-out logits ``g n k``."""
    grid = range(len(heldout))
    hits = [(each.argmax(1) == targets).sum().item() for each in heldout]
    losses = [cross_entropy(each, targets).item() for each in heldout]
    scales = [best_scale(each, targets, torch.ones(len(targets))) for each in heldout]
    scaled = [cross_entropy(each * scale, targets).item() for each, scale in zip(heldout, scales, strict=True)]
    by_accuracy = max(grid, key=lambda i: (hits[i], -losses[i]))
    by_loss, by_scaled = min(grid, key=lambda i: losses[i]), min(grid, key=lambda i: scaled[i])
    found = [(by_accuracy, 1.0), (by_loss, 1.0), (by_accuracy, scales[by_accuracy]), (by_scaled, scales[by_scaled])]
    return dict(zip(RULES, found, strict=True))


def scores(logits: Tensor, truth: Tensor) -> dict[str, float]:
    """Measure the predictions of one classifier."""
    return {
        "accuracy": (logits.argmax(1) == truth).double().mean().item(),
        "log loss": cross_entropy(logits, truth).item(),
        "calibration error": multiclass_calibration_error(logits.softmax(1), truth, logits.shape[1]).item(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=["svhn", "cifar10"])
    parser.add_argument("--epochs", nargs="+", type=int, default=[0, 4], help="epochs of rotation; 0: random weights")
    parser.add_argument("--draws", type=int, default=15, help="draws of the labels")
    parser.add_argument("--out", type=Path, default=Path("out/penalty-choice"))
    options = parser.parse_args()
    rows = Rows(options.out / "rows", {"draws": options.draws})
    found: dict[str, list[dict[str, dict[str, float]]]] = {}
    for name, epochs in product(options.data, options.epochs):
        data = pk.data.load(name)
        title = f"{Path(name).stem}, {f'rotation, {epochs} epochs' if epochs else 'random weights'}"
        backbone = backbone_of(data, epochs, options.out / f"{Path(name).stem}-{epochs}.pt")
        features, labels = extract_features(backbone, (data.train_images[:4000], data.train_labels[:4000]))
        assert labels is not None
        for count in COUNTS:

            def measure(count: int = count, features: Any = features, labels: Tensor = labels) -> Any:
                return [compare_rules(features["last"], labels, count, draw) for draw in range(options.draws)]

            found[f"{title}, {count} labels"] = rows.measure(f"{title}, {count} labels", measure)
    tables = {
        measure.capitalize(): table_of(measure, found) for measure in ("accuracy", "log loss", "calibration error")
    }
    for title, table in tables.items():
        print(title, *table["columns"], sep="  ")
        for row, cells in table["rows"].items():
            print(f"  {row:42}", *cells)
    write_report(
        options.out / "penalty-choice.json",
        f"training images of {', '.join(Path(name).stem for name in options.data)}",
        draws=options.draws,
        rows=rows.all(),
        tables=tables,
    )


def table_of(measure: str, found: Mapping[str, Sequence[Mapping[str, Mapping[str, float]]]]) -> dict[str, Any]:
    """Arrange the means over the draws of a measure: a column for each rule, and the mean of all rows."""
    means = {title: [mean(draw[rule][measure] for draw in draws) for rule in RULES] for title, draws in found.items()}
    means["mean"] = [mean(column) for column in zip(*means.values(), strict=True)]
    factor, digits = (100, 1) if measure == "accuracy" else (1, 3)
    rows = {title: [f"{factor * value:.{digits}f}" for value in values] for title, values in means.items()}
    return {"columns": list(RULES), "rows": rows, "corner": "%" if measure == "accuracy" else "features"}


if __name__ == "__main__":
    main()
