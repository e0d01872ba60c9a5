"""Compare pretext tasks on CIFAR-10: one backbone and one budget, beside no training and training with labels.

    python experiments/cifar10_comparison.py --data data/cifar10.npz --images 8000 --views 12

``--data`` takes anything that ``pretextkit.data.load`` takes. The budget is ``--views``: so many views of each image go
through the backbone, whatever the task makes of it. Repeat the command to go on where it was stopped; more tasks and
seeds may join. ``--out`` gets the measurements as JSON, a bar chart, and the accuracies against the number of labels.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path

from torch import Generator, Tensor

import pretextkit as pk
from pretextkit.functional import compare
from pretextkit.plots import comparison, label_efficiency
from pretextkit.views import random_horizontal_flip, random_resized_crop


def augment(images: Tensor, generator: Generator) -> Tensor:
    """What training with labels sees: crops and mirror images."""
    images = random_resized_crop(images, scale=(0.6, 1.0), generator=generator)
    return random_horizontal_flip(images, generator=generator)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--tasks", nargs="+", default=list(pk.pretext_tasks))
    parser.add_argument("--backbone", default="small-cnn")
    parser.add_argument("--views", type=float, default=40.0, help="views of each image, the budget")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--images", type=int, help="use so many training images only")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--finetune-steps", type=int, default=300)
    parser.add_argument("--out", type=Path, default=Path("out/cifar10-comparison"))
    options = parser.parse_args()

    data = pk.data.load(options.data)
    print(data)
    result = compare(
        options.tasks,
        options.backbone,
        (data.train_images[: options.images], data.train_labels[: options.images]),
        data.test,
        views_per_image=options.views,
        batch_size=options.batch_size,
        seeds=options.seeds,
        finetune_steps=options.finetune_steps,
        pool=[1, 2],
        finetuning={"augment": augment},
        save=options.out / "cells",
    )
    print(f"\n{result}")
    title = f"{data.name}, {options.views:g} views of each image"
    bars = comparison(result.accuracies("linear"), title=f"Linear probe at the best stage: {title}")
    bars.savefig(options.out / "cifar10-comparison-bars.png")
    curve = label_efficiency(result.label_efficiency(), title=f"Fine-tuned: {title}")
    curve.savefig(options.out / "cifar10-comparison-labels.png")
    (_, *columns), *rows = result.table()
    report = {
        "command": shlex.join(["python", *sys.argv]),
        "data": str(data),
        "seeds": options.seeds,
        "tables": {"": {"columns": columns, "rows": {name: cells for name, *cells in rows}}},
        "comparison": result.to_dict(),
    }
    (options.out / "cifar10-comparison.json").write_text(json.dumps(report, indent=1) + "\n")
    print(f"\nThe measurements as JSON and the pictures are in {options.out}")


if __name__ == "__main__":
    main()
