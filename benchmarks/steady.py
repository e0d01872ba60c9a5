"""Train for some minutes and check that memory and speed stay constant.

    python benchmarks/steady.py --minutes 30 --out docs/figures/steady.json

Each epoch records the resident memory (Linux: /proc/self/statm) and the speed, by wall-clock and by processor time;
other programs hardly change the latter. The report has the slopes of least-squares lines, without the first tenth of
the epochs, in which caches fill.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import statistics
import sys
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
FIGURES = ("resident memory, MiB", "images/s by the clock", "images/s of processor time")


class TimeIsUp(Exception):
    """End of the measurement."""


def resident() -> float:
    """Return the resident memory of this process in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MIB


def slope(x: list[float], y: list[float]) -> float:
    """Return the slope of a least-squares line."""
    fit: float = statistics.linear_regression(x, y).slope
    return fit


def measure(minutes: float, task: str, images: int, folder: str) -> dict[str, Any]:
    """Train for some minutes with checkpoints and fit the lines."""
    begun = time.monotonic()
    last = (begun, time.process_time())
    hours: list[float] = []
    recorded: dict[str, list[float]] = {name: [] for name in FIGURES}
    train = pk.data.load("sample").train_images[:images]

    def record(row: Mapping[str, float]) -> None:
        nonlocal last
        now = (time.monotonic(), time.process_time())
        speeds = [len(train) // 128 * 128 / (here - before) for here, before in zip(now, last, strict=True)]
        hours.append((now[0] - begun) / 3600)
        for name, value in zip(FIGURES, (resident(), *speeds), strict=True):
            recorded[name].append(value)
        last = now
        if now[0] - begun > 60 * minutes:
            raise TimeIsUp

    torch.manual_seed(0)
    network = pk.pretext_tasks.create(task, pk.models.SmallCNN())
    with suppress(TimeIsUp):
        pretrain(network, train, epochs=10**6, batch_size=128, checkpoint=folder, progress=False, callbacks=[record])
    first = max(1, len(hours) // 10)
    hours = hours[first:]
    lines = {name: line(hours, values[first:]) for name, values in recorded.items()}
    return {
        "task": task,
        "minutes": minutes,
        "epochs": len(hours),
        "images_per_epoch": len(train),
        "threads": torch.get_num_threads(),
        "tables": {
            "": {
                "corner": f"{len(hours):,} epochs, {minutes:g} minutes",
                "columns": ["median", "first tenth", "last tenth", "change per hour", "in percent"],
                "rows": {name: [f"{value:,.4g}" for value in each.values()] for name, each in lines.items()},
            }
        },
        "lines": lines,
        "environment": {"torch": torch.__version__, "python": platform.python_version(), "machine": platform.machine()},
    }


def line(hours: list[float], values: list[float]) -> dict[str, float]:
    """Summarize values over time: median, medians of the first and the last tenth, and slope."""
    tenth = max(1, len(values) // 10)
    median, rise = statistics.median(values), slope(hours, values)
    ends = (statistics.median(part) for part in (values[:tenth], values[-tenth:]))
    names = ("median", "first_tenth", "last_tenth", "slope_per_hour", "slope_per_hour_in_percent")
    return dict(zip(names, (median, *ends, rise, 100 * rise / median), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--task", default="simclr")
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        report = measure(options.minutes, options.task, options.images, folder)
    report = {"command": shlex.join(["python", *sys.argv]), "data": str(pk.data.load("sample")), **report}
    text = json.dumps(report, indent=1) + "\n"
    print(text, end="")
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(text)


if __name__ == "__main__":
    main()
