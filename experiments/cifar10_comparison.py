"""Compare pretext tasks on CIFAR-10 with one backbone and one budget; random init and supervised are the references.

    python experiments/cifar10_comparison.py --data data/cifar10.npz --images 8000 --views 12

``--data`` takes any source of ``pretextkit.data.load``. The budget ``--views`` is the number of views of each image
that pass through the backbone; it is the same for every task. Repeat the command to resume; tasks and seeds can be
added. ``--out`` receives the measurements as JSON, a bar chart, and a plot of accuracy by number of labels;
``--redraw`` draws the plots of a finished JSON again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from _redraw import add_redraw, chance_of, read_report
from _report import write_report
from _tasks import tasks_for

import pretextkit as pk
from pretextkit.functional import compare
from pretextkit.plots import comparison, label_efficiency


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--tasks", nargs="+", help="all that the backbone can train, by default")
    parser.add_argument("--backbone", default="small-cnn")
    parser.add_argument("--views", type=float, default=40.0, help="budget: views of each image")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--images", type=int, help="number of training images; all by default")
    parser.add_argument("--finetune-steps", type=int, help="steps of each fine-tuning; by default as in compare")
    parser.add_argument("--out", type=Path, default=Path("out/cifar10-comparison"))
    add_redraw(parser)
    options = parser.parse_args()
    if options.redraw:
        save_plots(options.redraw)
        return
    options.tasks = options.tasks or tasks_for(options.backbone)

    data = pk.data.load(options.data)
    print(data)
    result = compare(
        options.tasks,
        options.backbone,
        (data.train_images[: options.images], data.train_labels[: options.images]),
        data.test,
        views_per_image=options.views,
        seeds=options.seeds,
        finetune_steps=options.finetune_steps,
        save=options.out / "runs",
    )
    print(f"\n{result}")
    (_, *columns), *rows = result.table()
    report = options.out / "cifar10-comparison.json"
    write_report(
        report,
        data,
        seeds=options.seeds,
        tables={"": {"columns": columns, "rows": {name: cells for name, *cells in rows}}},
        comparison=result.to_dict(),
    )
    save_plots(report)
    print(f"\nThe measurements and the plots are in {options.out}")


def save_plots(path: Path) -> None:
    """Draw the bars and the lines of a report beside it."""
    report = read_report(path)
    name = report["data"].partition("(")[2].partition(":")[0]
    title = f"{name}, {report['comparison']['settings']['views_per_image']:g} views of each image"
    best: dict[str, list[float]] = {}
    finetuned: dict[str, dict[int, list[float]]] = {}
    for run in report["comparison"]["runs"]:
        best.setdefault(run["method"], []).append(run["linear"])
        for labels, accuracy in run["finetuned"].items():
            finetuned.setdefault(run["method"], {}).setdefault(int(labels), []).append(accuracy)
    bars = comparison(best, title=f"Linear probe: {title}", chance=chance_of(report))
    bars.savefig(path.with_name(f"{path.stem}-bars.png"))
    lines = label_efficiency(finetuned, title=f"Fine-tuned: {title}", chance=chance_of(report))
    lines.savefig(path.with_name(f"{path.stem}-labels.png"))


if __name__ == "__main__":
    main()
