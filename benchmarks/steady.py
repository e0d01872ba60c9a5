"""Train for minutes and see whether memory and speed stay as they are.

    python benchmarks/steady.py --minutes 30 --out benchmarks/results/steady.json

After each epoch the resident memory (Linux: /proc/self/statm) and the epoch's speed are noted. Reported are the slopes
of least-squares lines through both, without the first tenth of the epochs, in which caches fill.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

import pretextkit as pk
from pretextkit.functional import pretrain

MIB = 1 << 20


class EnoughError(Exception):
    """The minutes are over."""


def resident() -> float:
    """Tell how many MiB of this process are in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MIB


def slope(x: list[float], y: list[float]) -> float:
    """Fit a line by least squares."""
    fit: float = statistics.linear_regression(x, y).slope
    return fit


def measure(minutes: float, task: str, images: int, folder: str) -> dict[str, Any]:
    """Train for so long, with checkpoints, and fit the lines."""
    begun = last = time.monotonic()
    hours: list[float] = []
    memory: list[float] = []
    speed: list[float] = []
    train = pk.data.load("sample").train_images[:images]

    def note(row: Mapping[str, float]) -> None:
        nonlocal last
        now = time.monotonic()
        hours.append((now - begun) / 3600)
        memory.append(resident())
        speed.append(len(train) // 128 * 128 / (now - last))
        last = now
        if now - begun > 60 * minutes:
            raise EnoughError

    torch.manual_seed(0)
    network = pk.pretext_tasks.create(task, pk.models.SmallCNN())
    with suppress(EnoughError):
        pretrain(network, train, epochs=10**6, batch_size=128, checkpoint=folder, progress=False, callbacks=[note])
    first = max(1, len(hours) // 10)
    hours, memory, speed = hours[first:], memory[first:], speed[first:]
    usual = statistics.median(speed)
    return {
        "task": task,
        "minutes": minutes,
        "epochs": len(hours),
        "images_an_epoch": len(train),
        "memory_mib": {"first": memory[0], "last": memory[-1], "slope_an_hour": slope(hours, memory)},
        "images_per_second": {
            "median": usual,
            "slope_an_hour": slope(hours, speed),
            "slope_an_hour_in_percent": 100 * slope(hours, speed) / usual,
        },
        "environment": {"torch": torch.__version__, "python": platform.python_version(), "machine": platform.machine()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--task", default="simclr")
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        report = measure(options.minutes, options.task, options.images, folder)
    text = json.dumps(report, indent=1) + "\n"
    print(text, end="")
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(text)


if __name__ == "__main__":
    main()
