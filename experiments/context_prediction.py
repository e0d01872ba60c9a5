"""Why relative patch location did not converge: reproduce the failure, then remove one cause at a time.

    python experiments/context_prediction.py --data data/camvid.npz --size 96
    python experiments/context_prediction.py --data data/tinyimagenet20.npz

The task predicts the position of a patch relative to its neighbor, without labels. Every row of the table adds one
change to the row before; all rows except the last train on the same number of pairs. Each row has three accuracies: on
its training images, on test images cut in the same manner, and on test images cut without shortcuts, like those of the
last rows. ``--data`` takes any source of ``pretextkit.data.load``. Repeat the command to resume.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

import torch
from _report import Rows, write_report
from torch import Generator, Tensor

import pretextkit as pk
from pretextkit.functional import pretrain
from pretextkit.tasks import JigsawContext, PatchLayout
from pretextkit.views import color_jitter, drop_colors, random_horizontal_flip


class Unstandardized(JigsawContext):
    """Relative patch location on patches that keep their brightness and contrast."""

    def remove_shortcuts(self, patches: Tensor, generator: Generator) -> Tensor:
        return drop_colors(patches, self.color_drop, generator=generator)


def augment(images: Tensor, generator: Generator) -> Tensor:
    """Flip and jitter colors at random."""
    images = random_horizontal_flip(images, generator=generator)
    return color_jitter(images, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, generator=generator)


class Setup(NamedTuple):
    """Options of one row: task, patch layout, training images and length of training."""

    task: Callable[..., JigsawContext]
    cutting: dict[str, Any]
    few: bool = False
    augment: Callable[[Tensor, Generator], Tensor] | None = None
    times: int = 1


def setups_for(size: int, pairs: int) -> dict[str, Setup]:
    """Return the rows in order, from touching color patches of a few images to all mitigations."""
    touching = {"layout": PatchLayout(size // 3, 0, 0), "pairs": 1, "color_drop": 0.0}
    apart = touching | {"layout": PatchLayout.fitting(size)}
    gray = apart | {"color_drop": 0.66}
    several = gray | {"pairs": pairs}
    return {
        "as reported": Setup(Unstandardized, touching, few=True),
        "+ all images": Setup(Unstandardized, touching),
        "+ gap and jitter": Setup(Unstandardized, apart),
        "+ standardized patches": Setup(JigsawContext, apart),
        "+ colors dropped": Setup(JigsawContext, gray),
        f"+ {pairs} pairs per image": Setup(JigsawContext, several),
        "+ flip and color jitter": Setup(JigsawContext, several, augment=augment),
        "+ 4 times as many steps": Setup(JigsawContext, several, augment=augment, times=4),
    }


def accuracy(task: JigsawContext, images: Tensor, pairs: int) -> float:
    """Return the accuracy of a task on about ``pairs`` pairs."""
    task.eval()
    generator = Generator().manual_seed(0)
    parts = torch.split(images, 256 // task.pairs) * max(1, pairs // (len(images) * task.pairs))
    with torch.no_grad():
        right = [len(part) * task.step(part, generator).metrics["accuracy"].item() for part in parts]
    return sum(right) / sum(len(part) for part in parts)


class Experiment:
    """The data and the options of all rows."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.data = pk.data.load(options.data, size=options.size)
        self.train, self.test = self.data.train_images[: options.images], self.data.test_images[: options.images]
        self.setups = setups_for(min(self.train.shape[2:]), options.pairs)

    def measure(self, name: str, seed: int) -> dict[str, float]:
        """Pretrain one row and measure its accuracies."""
        setup, options = self.setups[name], self.options
        torch.manual_seed(seed)
        backbone = pk.models.SmallCNN(in_channels=self.train.shape[1])
        backbone.normalization.measure(self.train)
        task = setup.task(backbone, **setup.cutting)
        images = self.train[: options.few] if setup.few else self.train
        run = pretrain(
            task,
            images,
            steps=options.steps * setup.times,
            batch_size=min(256 // task.pairs, len(images)),
            augment=setup.augment,
            seed=seed,
            checkpoint=options.out / "runs" / f"{seed}-{name.replace(' ', '-')}",
        )
        without_shortcuts = JigsawContext(task.backbone, **self.setups["+ colors dropped"].cutting)
        without_shortcuts.head = task.head
        accuracies = {
            "train": accuracy(task, images, options.measured),
            "test": accuracy(task, self.test, options.measured),
            "without shortcuts": accuracy(without_shortcuts, self.test, options.measured),
        }
        print(", ".join(f"{key} {value:.1%}" for key, value in accuracies.items()), flush=True)
        return {**accuracies, "seconds": run.history.last["seconds"]}


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="data/camvid.npz")
    parser.add_argument("--size", type=int, help="resize the images to this many pixels")
    parser.add_argument("--few", type=int, default=100, help="number of training images of the first row")
    parser.add_argument("--pairs", type=int, default=8, help="pairs per image in the rows with several")
    parser.add_argument("--steps", type=int, default=600, help="steps of 256 pairs; four times as many in the last row")
    parser.add_argument("--measured", type=int, default=10_000, help="approximate number of pairs for an accuracy")
    parser.add_argument("--images", type=int, help="number of training and of test images; all by default")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=Path("out/context-prediction"))
    return parser.parse_args()


def main() -> None:
    options = read_options()
    torch.set_num_threads(options.threads)
    experiment = Experiment(options)
    print(experiment.data)
    rows = Rows(options.out / "rows", {"data": options.data, "steps": options.steps, "images": options.images})
    runs = {
        name: [rows.measure(f"{name}; {seed}", partial(experiment.measure, name, seed)) for seed in options.seeds]
        for name in experiment.setups
    }
    columns = ("train", "test", "without shortcuts")
    table = {
        name: [
            *([run[column] for run in of_seeds] for column in columns),
            round(mean(run["seconds"] for run in of_seeds)),
        ]
        for name, of_seeds in runs.items()
    }
    write_report(
        options.out / f"context-prediction-{Path(options.data).stem}.json",
        experiment.data,
        layouts={name: setup.cutting["layout"]._asdict() for name, setup in experiment.setups.items()},
        steps=options.steps,
        seeds=options.seeds,
        tables={"Accuracy": {"columns": [*columns, "seconds"], "rows": table}},
    )


if __name__ == "__main__":
    main()
