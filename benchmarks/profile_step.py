"""Profile a training step: loader, views, forward, backward, optimizer and the rest.

    python benchmarks/profile_step.py --task simclr --backbone resnet18
    python benchmarks/profile_step.py --task rotation --backbone small-cnn --data cifar10 --steps 50 --out profile.json

The script times the stages of ``pretrain`` itself, without changing them. On a GPU every stage is synchronized, to
separate the times; this slows the steps. The file is not named profile.py, because torch imports cProfile, which would
import this file in place of the standard library's module.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

import pretextkit as pk
from pretextkit.functional import pretrain
from pretextkit.training._sampler import BatchSampler
from pretextkit.training._step import TrainStep

STAGES = ("loader", "views", "forward", "backward", "optimizer")


class Clocks:
    """Accumulated seconds of each stage."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(STAGES, 0.0)

    def time(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap a function to add its time to a stage."""

        def timed(*arguments: Any, **options: Any) -> Any:
            begun = now()
            try:
                return function(*arguments, **options)
            finally:
                self.seconds[stage] += now() - begun

        return timed

    def time_items(self, stage: str, function: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
        """Wrap a generator to add the time of its items to a stage."""

        def timed(*arguments: Any, **options: Any) -> Iterator[Any]:
            stream = function(*arguments, **options)
            following = self.time(stage, next)
            while (item := following(stream, None)) is not None:
                yield item

        return timed


def now() -> float:
    """Read the clock after the GPU, if any, has finished."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def profile_of(task: Any, images: Any, *, batch_size: int, steps: int, **options: Any) -> dict[str, Any]:
    """Pretrain for some steps; return seconds per step and the fraction of each stage.

    An untimed first step measures the normalization and chooses kernels.
    """
    pretrain(task, images, steps=1, batch_size=batch_size, progress=False, **options)
    clocks = Clocks()
    backward = torch.autograd.backward
    build = TrainStep.__init__

    def built(stepper: TrainStep, *arguments: Any, **others: Any) -> None:
        build(stepper, *arguments, **others)
        # On the object, because torch wraps the method of the class for its own profiler.
        stepper.optimizer.step = clocks.time("optimizer", stepper.optimizer.step)  # type: ignore[method-assign]

    with (
        patch.object(TrainStep, "__init__", built),
        patch.object(TrainStep, "prepare", clocks.time("views", TrainStep.prepare)),
        patch.object(TrainStep, "_loss", clocks.time("forward", TrainStep._loss)),
        patch.object(BatchSampler, "batches", clocks.time_items("loader", BatchSampler.batches)),
        patch.object(torch.autograd, "backward", clocks.time("backward", backward)),
    ):
        begun = now()
        run = pretrain(task, images, steps=steps, batch_size=batch_size, progress=False, **options)
        total = now() - begun
    seconds = clocks.seconds | {"rest": total - sum(clocks.seconds.values())}
    return {
        "seconds_per_step": {stage: value / steps for stage, value in seconds.items()},
        "fraction": {stage: value / total for stage, value in seconds.items()},
        "images_per_second": batch_size * steps / total,
        "precision": run.precision,
        "device": run.device,
    }


def table(found: dict[str, Any]) -> str:
    """Format the stages as a table."""
    lines = [f"{'stage':10} {'ms per step':>11} {'fraction':>8}"]
    for stage, seconds in found["seconds_per_step"].items():
        lines.append(f"{stage:10} {1000 * seconds:11.2f} {found['fraction'][stage]:8.1%}")
    return "\n".join([*lines, f"{found['images_per_second']:,.0f} images/s, {found['precision']} on {found['device']}"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="simclr", choices=sorted(pk.pretext_tasks))
    parser.add_argument("--backbone", default="small-cnn", choices=sorted(pk.backbones))
    parser.add_argument("--data", default="sample", help="any source of pretextkit.data.load, or a folder of images")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.manual_seed(0)
    task = pk.pretext_tasks.create(options.task, pk.backbones.create(options.backbone))
    images = options.data if Path(options.data).is_dir() else pk.data.load(options.data).train_images
    found = profile_of(task, images, batch_size=options.batch_size, steps=options.steps, workers=options.workers)
    print(table(found))
    if options.out is not None:
        report = {
            **{name: getattr(options, name) for name in ("task", "backbone", "data", "batch_size", "steps", "workers")},
            **found,
            "environment": {
                "torch": torch.__version__,
                "python": platform.python_version(),
                "threads": torch.get_num_threads(),
            },
        }
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
