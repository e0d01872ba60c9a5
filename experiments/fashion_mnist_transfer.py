"""Transfer between datasets: pretrain on CIFAR-10 or FashionMNIST, evaluate on both.

    python experiments/fashion_mnist_transfer.py --first data/cifar10.npz --second data/fashion-mnist.npz --seeds 0 1 2

Nothing is adapted by hand: a backbone converts gray and color images to its own number of channels, and accepts images
of 28x28 and of 32x32 pixels. Every task is pretrained once on each dataset (colorization on the color images only);
comparisons that share ``checkpoints`` load its weights. Repeat the command to resume. ``--out`` receives the tables as
JSON and one bar chart for each table; ``--redraw`` draws the charts of a finished JSON again.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from itertools import chain, product
from pathlib import Path
from typing import Any

from _redraw import add_redraw, chance_of, read_report
from _report import write_report
from _tasks import tasks_for

import pretextkit as pk
from pretextkit.functional import Comparison, compare
from pretextkit.plots import comparison


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first", default="cifar10", help="any source of pretextkit.data.load")
    parser.add_argument("--second", default="fashion-mnist")
    parser.add_argument("--tasks", nargs="+", help="all that the backbone can train, by default")
    parser.add_argument("--backbone", default="small-cnn")
    parser.add_argument("--views", type=float, default=40.0, help="budget: views of each image")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--images", type=int, help="number of training images of each dataset; all by default")
    parser.add_argument("--evaluate", nargs="+", default=["first", "second"], choices=["first", "second"])
    parser.add_argument("--size", type=int, help="resize all images to this many pixels")
    parser.add_argument("--out", type=Path, default=Path("out/fashion-mnist-transfer"))
    add_redraw(parser)
    options = parser.parse_args()
    if options.redraw:
        save_bars(options.redraw)
        return
    options.tasks = options.tasks or tasks_for(options.backbone)

    first, second = (pk.data.load(source, size=options.size) for source in (options.first, options.second))
    names = (first.name, second.name) if first.name != second.name else ("first", "second")
    sets = dict(zip(names, (first, second), strict=True))
    targets = {
        name: sets[name] for name, which in zip(names, ("first", "second"), strict=True) if which in options.evaluate
    }
    tasks: dict[str, Callable[..., Any]] = {name: pk.pretext_tasks[name] for name in options.tasks}
    results: dict[tuple[str, str], Comparison] = {}
    for (source, pretrained), (target, evaluated) in product(sets.items(), targets.items()):
        print(f"Pretrained on {source}, evaluated on {target}", flush=True)
        results[source, target] = compare(
            {name: task for name, task in tasks.items() if name != "colorization" or has_color(pretrained)},
            options.backbone,
            (evaluated.train_images[: options.images], evaluated.train_labels[: options.images]),
            evaluated.test,
            images=pretrained.train_images[: options.images],
            views_per_image=options.views,
            seeds=options.seeds,
            label_fractions=(),
            save=options.out / f"{source}-to-{target}",
            checkpoints=options.out / f"pretrained-on-{source}",
        )
        print(results[source, target], flush=True)

    tables = {f"Evaluated on {target}": table_of(results, list(sets), target) for target in targets}
    report = options.out / "fashion-mnist-transfer.json"
    write_report(
        report,
        "; ".join(map(str, sets.values())),
        seeds=options.seeds,
        tables=tables,
        comparisons={f"{source} to {target}": result.to_dict() for (source, target), result in results.items()},
    )
    save_bars(report)
    print(f"\nThe measurements and the plots are in {options.out}")


def has_color(images: pk.data.ImageData) -> bool:
    """Return whether the images have color, which colorization needs."""
    return images.train_images.shape[1] == 3


def table_of(results: dict[tuple[str, str], Comparison], sources: list[str], target: str) -> dict[str, Any]:
    """Arrange the accuracies of each method on one dataset, with a column for each pretraining dataset.

    Colorization has no value for gray images. The rows without pretraining use only the mean and the standard deviation
    of the pretraining dataset, which normalize their input.
    """
    found = [result.accuracies("linear") for (_, evaluated), result in results.items() if evaluated == target]
    rows = {row: [each.get(row, []) for each in found] for row in dict.fromkeys(chain(*found))}
    return {"columns": [f"pretrained on {source}" for source in sources], "rows": rows}


def save_bars(path: Path) -> None:
    """Draw the accuracies of each table of a report as bars beside it.

    A row names the images that the backbone has seen: those without pretraining use them for normalization.
    """
    report = read_report(path)
    for title, table in report["tables"].items():
        target = title.removeprefix("Evaluated on ")
        bars = {
            f"{row}, images of {column.removeprefix('pretrained on ')}": values
            for row, of_row in table["rows"].items()
            for column, values in zip(table["columns"], of_row, strict=True)
            if values
        }
        figure = comparison(bars, title=f"Linear probe on {target}", chance=chance_of(report, target))
        figure.savefig(path.with_name(f"{path.stem}{f'-to-{target}' if len(report['tables']) > 1 else ''}.png"))


if __name__ == "__main__":
    main()
