"""Pretrain on unlabeled images, then measure how well simple classifiers work on the features.

    python examples/quickstart.py

runs on the embedded FashionMNIST sample in a few minutes. It prints a table of test accuracies and
writes to ``--out``: the table as JSON, and a figure of the views of each task.
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
from torchvision.utils import make_grid, save_image

import pretextkit as pk
from pretextkit.functional import freeze_and_finetune, knn_probe, linear_probe, pretrain

FEW = 200  # labels
TASKS = {"rotation": 2, "simclr": 3, "jigsaw-context": 3}  # epochs
SUPERVISED_EPOCHS, FEW_EPOCHS = 4, 60


def new_backbone(seed: int) -> Any:
    torch.manual_seed(seed)
    return pk.backbones["small-cnn"]()


def evaluate(backbone: Any, data: Any, few: Any, seconds: float) -> dict[str, Any]:
    """Probe frozen features: with all labels on every stage, by nearest neighbors, and with few labels."""
    probe = linear_probe(backbone, data.train, data.test, layers="all")
    return {
        "linear_best": probe.accuracy,
        "best_stage": probe.layer,
        "linear_last": probe.layers["stage4"].accuracy,
        "knn": knn_probe(backbone, data.train, data.test).accuracy,
        "linear_few": linear_probe(backbone, few, data.test, layers="all").accuracy,
        "seconds": seconds,
    }


def save_views(batch: Any, path: Path) -> None:
    """Draw eight images of each view, one row for each view."""
    views = [view.chunk(4) if name == "images" else [view] for name, view in batch._asdict().items() if view.ndim == 4]
    rows = [torch.nn.functional.interpolate(row[:8], size=84) for view in views for row in view]
    save_image(make_grid(torch.cat(rows), nrow=8, pad_value=1.0), path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="sample", help="any source of pretextkit.data.load")
    parser.add_argument("--out", type=Path, default=Path("out/quickstart"))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()

    data = pk.data.load(options.data)
    chosen = pk.data.stratified_subset(data.train_labels, FEW, seed=options.seed)
    few = (data.train_images[chosen], data.train_labels[chosen])
    print(data)

    rows: dict[str, dict[str, Any]] = {}
    backbone = new_backbone(options.seed)
    backbone.normalization.measure(data.train_images)
    rows["random init"] = evaluate(backbone, data, few, seconds=0.0)

    for name, labeled, epochs in (
        ("supervised, all labels", data.train, SUPERVISED_EPOCHS),
        (f"supervised, {FEW} labels", few, FEW_EPOCHS),
    ):
        backbone = new_backbone(options.seed)
        head = pk.heads["linear"](backbone.feature_dim, len(data.class_names))
        tuned = freeze_and_finetune(
            backbone, head, labeled, data.test, trainable="all", epochs=epochs, batch_size=128, seed=options.seed
        )
        rows[name] = evaluate(backbone, data, few, tuned.seconds) | {"own_classifier": tuned.accuracy}

    for name, epochs in TASKS.items():
        task = pk.pretext_tasks[name](new_backbone(options.seed))
        result = pretrain(task, data.train_images, epochs=epochs, batch_size=128, seed=options.seed)
        print(f"{name}: {result}")
        views = task.views(data.train_images[:8].float() / 255, torch.Generator().manual_seed(options.seed))
        save_views(views, options.out / f"quickstart-views-{name}.png")
        rows[name] = evaluate(task.backbone, data, few, result.seconds)

    print(f"\n{'':24}{'best stage':>20}{'last stage':>12}{'kNN':>8}{f'{FEW} labels':>12}{'training':>10}")
    for name, row in rows.items():
        best = f"{row['linear_best']:.1%} ({row['best_stage']})"
        print(
            f"{name:24}{best:>20}{row['linear_last']:>12.1%}{row['knn']:>8.1%}{row['linear_few']:>12.1%}"
            f"{row['seconds']:>8.0f} s"
        )
    report = {
        "command": shlex.join(["python", *sys.argv]),
        "rows": [{"name": name, **row} for name, row in rows.items()],
        "data": str(data),
        "few_labels": FEW,
        "seed": options.seed,
        "seconds": time.monotonic() - begun,
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
