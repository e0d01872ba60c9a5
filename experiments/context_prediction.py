"""Why context prediction did not converge: the failure reproduced, then one cause removed at a time.

    python experiments/context_prediction.py --data data/camvid.npz --size 96
    python experiments/context_prediction.py --data data/tinyimagenet20.npz

A network learns where around a patch its neighbor was, without labels. Every row of the table changes one thing and
keeps what was changed before; all rows but the last see as many pairs of patches. Each is measured three times: on the
images that it was trained on, on test images cut in the same way, and on test images cut without shortcuts, as the
last rows cut them. ``--data`` takes anything that ``pretextkit.data.load`` takes. Finished rows are kept: repeat the
command to go on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import platform
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor

import pretextkit as pk
from pretextkit.functional import pretrain
from pretextkit.tasks import JigsawContext, PatchLayout
from pretextkit.views import color_jitter, drop_colors, random_horizontal_flip


class Unstandardized(JigsawContext):
    """Patches that keep their brightness and their contrast."""

    def remove_shortcuts(self, patches: Tensor, generator: Generator) -> Tensor:
        return drop_colors(patches, self.color_drop, generator=generator)


def augment(images: Tensor, generator: Generator) -> Tensor:
    """Mirror and recolor."""
    images = random_horizontal_flip(images, generator=generator)
    return color_jitter(images, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, generator=generator)


class Row(NamedTuple):
    """How to cut, what to train on, and for how long."""

    task: Callable[..., JigsawContext]
    cutting: dict[str, Any]
    few: bool = False
    augment: Callable[[Tensor, Generator], Tensor] | None = None
    times: int = 1


def rows_for(size: int, pairs: int) -> dict[str, Row]:
    """Begin with patches that touch, in their colors, of a few images."""
    touching = {"layout": PatchLayout(size // 3, 0, 0), "pairs": 1, "color_drop": 0.0}
    apart = touching | {"layout": PatchLayout.fitting(size)}
    cured = apart | {"color_drop": 0.66}
    several = cured | {"pairs": pairs}
    return {
        "as reported": Row(Unstandardized, touching, few=True),
        "+ all images": Row(Unstandardized, touching),
        "+ gap and jitter": Row(Unstandardized, apart),
        "+ standardized patches": Row(JigsawContext, apart),
        "+ colors dropped": Row(JigsawContext, cured),
        f"+ {pairs} pairs of an image": Row(JigsawContext, several),
        "+ images mirrored and recolored": Row(JigsawContext, several, augment=augment),
        "+ longer": Row(JigsawContext, several, augment=augment, times=4),
    }


def accuracy(task: JigsawContext, images: Tensor, pairs: int) -> float:
    """Share of neighbors that are placed right, of some thousand pairs."""
    task.eval()
    generator = Generator().manual_seed(0)
    parts = torch.split(images, 256 // task.pairs) * max(1, pairs // (len(images) * task.pairs))
    with torch.no_grad():
        right = [len(part) * task.step(part, generator).metrics["accuracy"].item() for part in parts]
    return sum(right) / sum(len(part) for part in parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="data/camvid.npz")
    parser.add_argument("--size", type=int, help="resize the images to so many pixels a side")
    parser.add_argument("--few", type=int, default=100, help="images of the first row")
    parser.add_argument("--pairs", type=int, default=8, help="of an image at a time, where there are several")
    parser.add_argument(
        "--steps", type=int, default=600, help="of 256 pairs each; the last row takes four times as many"
    )
    parser.add_argument("--measured", type=int, default=10_000, help="pairs that an accuracy is measured on, about")
    parser.add_argument("--images", type=int, help="use so many images only, of train and of test")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=Path("out/context-prediction"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    (options.out / "cells").mkdir(parents=True, exist_ok=True)
    data = pk.data.load(options.data, size=options.size)
    print(data)
    train, test = data.train_images[: options.images], data.test_images[: options.images]
    size = min(train.shape[2:])
    rows = rows_for(size, options.pairs)
    cells: dict[str, list[dict[str, Any]]] = {name: [] for name in rows}

    def measure(name: str, row: Row, seed: int) -> dict[str, Any]:
        torch.manual_seed(seed)
        backbone = pk.models.SmallCNN(in_channels=train.shape[1])
        backbone.normalization.measure(train)
        task = row.task(backbone, **row.cutting)
        images = train[: options.few] if row.few else train
        run = pretrain(
            task,
            images,
            steps=options.steps * row.times,
            batch_size=min(256 // task.pairs, len(images)),
            augment=row.augment,
            seed=seed,
            checkpoint=options.out / "runs" / f"{len(cells[name])}-{name.replace(' ', '-')}",
        )
        honest = JigsawContext(task.backbone, **rows["+ colors dropped"].cutting)
        honest.head = task.head
        cell = {
            "train": accuracy(task, images, options.measured),
            "test": accuracy(task, test, options.measured),
            "without shortcuts": accuracy(honest, test, options.measured),
            "seconds": run.history.last["seconds"],
        }
        shares = ", ".join(f"{key} {value:.1%}" for key, value in cell.items() if key != "seconds")
        print(f"seed {seed}, {name}: {shares}", flush=True)
        return cell

    for seed in options.seeds:
        for name, row in rows.items():
            path = options.out / "cells" / f"{name}; {seed}.json"
            if not path.exists():
                path.write_text(json.dumps(measure(name, row, seed)))
            cells[name].append(json.loads(path.read_text()))

    columns = ("train", "test", "without shortcuts")
    report = {
        "command": shlex.join(["python", *sys.argv]),
        "data": str(data),
        "layouts": {name: row.cutting["layout"]._asdict() for name, row in rows.items()},
        "steps": options.steps,
        "seeds": options.seeds,
        "threads": options.threads,
        "environment": {"python": platform.python_version(), "torch": torch.__version__},
        "tables": {
            "Neighbors placed right": {
                "columns": [*columns, "seconds"],
                "rows": {
                    name: [
                        *([cell[column] for cell in found] for column in columns),
                        round(mean(cell["seconds"] for cell in found)),
                    ]
                    for name, found in cells.items()
                },
            }
        },
    }
    name = f"context-prediction-{Path(options.data).stem}"
    (options.out / f"{name}.json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
