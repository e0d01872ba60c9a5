"""Pretrain on one image set, evaluate on another: CIFAR-10 and FashionMNIST, in all four directions.

    python experiments/fashion_mnist_transfer.py --first data/cifar10.npz --second data/fashion-mnist.npz --seeds 0 1 2

Nothing is adapted by hand: a backbone brings gray and color images to its own channels, and takes images of 28 pixels
a side as it takes those of 32. Every task pretrains once on each set (colorization on the one that has colors), and
comparisons that share ``checkpoints`` read its weights. Repeat the command to go on where it was stopped. ``--out``
gets the tables as JSON and a bar chart of each.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Callable
from functools import partial
from itertools import chain, product
from pathlib import Path
from typing import Any

import pretextkit as pk
from pretextkit.functional import Comparison, compare
from pretextkit.plots import comparison


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first", default="cifar10", help="anything that pretextkit.data.load takes")
    parser.add_argument("--second", default="fashion-mnist")
    parser.add_argument("--tasks", nargs="+", default=list(pk.pretext_tasks))
    parser.add_argument("--backbone", default="small-cnn")
    parser.add_argument("--views", type=float, default=40.0, help="views of each image, the budget")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--images", type=int, help="use so many training images of each only")
    parser.add_argument("--evaluate", nargs="+", default=["first", "second"], choices=["first", "second"])
    parser.add_argument("--pool", type=int, nargs="+", default=[1, 2], help="sides of the grids that maps are read by")
    parser.add_argument("--size", type=int, help="scale all images to so many pixels a side")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--learning-rate", type=float, help="of pretraining; the default is that of pretrain")
    parser.add_argument("--temperature", type=float, default=0.5, help="of SimCLR")
    parser.add_argument("--out", type=Path, default=Path("out/fashion-mnist-transfer"))
    options = parser.parse_args()

    first, second = (pk.data.load(source, size=options.size) for source in (options.first, options.second))
    names = (first.name, second.name) if first.name != second.name else ("first", "second")
    sets = dict(zip(names, (first, second), strict=True))
    targets = {
        name: sets[name] for name, which in zip(names, ("first", "second"), strict=True) if which in options.evaluate
    }
    tasks: dict[str, Callable[..., Any]] = {name: pk.pretext_tasks[name] for name in options.tasks}
    if "simclr" in tasks:
        tasks["simclr"] = partial(pk.tasks.SimCLR, temperature=options.temperature)
    results: dict[tuple[str, str], Comparison] = {}
    for (source, pretrained), (target, evaluated) in product(sets.items(), targets.items()):
        print(f"Pretrained on {source}, evaluated on {target}", flush=True)
        results[source, target] = compare(
            {name: task for name, task in tasks.items() if name != "colorization" or colored(pretrained)},
            options.backbone,
            (evaluated.train_images[: options.images], evaluated.train_labels[: options.images]),
            evaluated.test,
            images=pretrained.train_images[: options.images],
            views_per_image=options.views,
            batch_size=options.batch_size,
            seeds=options.seeds,
            label_fractions=(),
            pool=options.pool,
            pretraining={"learning_rate": options.learning_rate},
            save=options.out / f"{source}-to-{target}",
            checkpoints=options.out / f"pretrained-on-{source}",
        )
        print(results[source, target], flush=True)

    tables: dict[str, Any] = {}
    for target in targets:
        rows = accuracies(results, target)
        columns = [f"images of {source}" for source in sets]
        tables[f"Evaluated on {target}"] = {"columns": columns, "rows": rows}
        bars = {
            f"{row}, {column}": values
            for row, cells in rows.items()
            for column, values in zip(columns, cells, strict=True)
            if values
        }
        figure = comparison(bars, title=f"Linear probe on {target}, best stage")
        figure.savefig(options.out / f"fashion-mnist-transfer-to-{target}.png")
    report = {
        "command": shlex.join(["python", *sys.argv]),
        "data": "; ".join(map(str, sets.values())),
        "seeds": options.seeds,
        "tables": tables,
        "comparisons": {f"{one} to {other}": result.to_dict() for (one, other), result in results.items()},
    }
    (options.out / "fashion-mnist-transfer.json").write_text(json.dumps(report, indent=1) + "\n")
    print(f"\nThe measurements as JSON and the pictures are in {options.out}")


def colored(images: pk.data.ImageData) -> bool:
    """Tell whether there is a color to predict."""
    return images.train_images.shape[1] == 3


def accuracies(results: dict[tuple[str, str], Comparison], evaluated: str) -> dict[str, list[list[float]]]:
    """Give each row's accuracies on one set, for each set that was pretrained on.

    Gray images teach no colors, so that there is no such cell. Of the set that was pretrained on, the rows without
    pretraining know mean and deviation only, by which their input is normalized.
    """
    found = [result.accuracies("linear") for (_, target), result in results.items() if target == evaluated]
    return {row: [each.get(row, []) for each in found] for row in dict.fromkeys(chain(*found))}


if __name__ == "__main__":
    main()
