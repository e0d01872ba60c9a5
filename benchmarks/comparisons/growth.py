"""Speed and memory as curves over the size of the data."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from torch import nn

import pretextkit as pk
from comparisons.probes import features
from comparisons.synthetic import synthetic_images
from comparisons.timing import MIB, Comparison, Effort, Row, Unequal, extra_own_mib, in_child, medians, status_mib
from pretextkit.functional import knn_probe, linear_probe, pretrain

TILE = 1000


def write_images(path: Path, count: int) -> None:
    """Write ``count`` images of 3x32x32 bytes to a file, in chunks of a thousand."""
    tile = synthetic_images(TILE, 32).numpy()
    with path.open("wb") as file:
        for _ in range(0, count, TILE):
            file.write(tile.tobytes())


def train_from(path: str, count: int, steps: int, batch: int) -> Row:
    """Train from a memory-mapped file; return the speed and the extra anonymous memory.

    Anonymous memory excludes cached pages of the file.
    """
    images = np.memmap(path, np.uint8, "c", shape=(count, 3, 32, 32))
    task = pk.tasks.SimCLR(pk.models.SmallCNN())
    own: list[float] = []
    pretrain(task, images, steps=2, batch_size=batch, progress=False)  # measures the normalization
    before = status_mib("RssAnon")
    run = pretrain(
        task,
        images,
        steps=steps,
        batch_size=batch,
        progress=False,
        callbacks=[lambda _: own.append(status_mib("RssAnon"))],
    )
    return {"images": count, "images/s": run.images_per_second, "extra MiB": max(own) - before}


def images_per_second(effort: Effort) -> Row:
    """Measure each size in its own process; the reference is the fastest, because small sizes have more epochs."""
    counts = [1000, 10_000, 100_000, 1_000_000] if not effort.quick else [1000, 2000]
    steps, batch = effort.of(40, 2), effort.of(250, 50)
    with TemporaryDirectory() as name:
        path = Path(name) / "images.bin"
        write_images(path, counts[-1])
        rounds: list[list[Row]] = []
        for number in range(effort.of(5, 1)):
            order = counts if number % 2 == 0 else counts[::-1]
            found = {count: in_child(train_from, str(path), count, steps, batch) for count in order}
            rounds.append([found[count] for count in counts])
    speeds = medians([[point["images/s"] for point in row] for row in rounds])
    memory = medians([[point["extra MiB"] for point in row] for row in rounds])
    points = [
        {"images": count, "images/s": speed, "extra MiB": extra}
        for count, speed, extra in zip(counts, speeds, memory, strict=True)
    ]
    return {"ratio": speeds[-1] / max(speeds), "rounds": len(rounds), "points": points}


def probe_peak(kind: str, count: int, width: int, budget: dict[str, float]) -> Row:
    """Probe ``count`` features that are in memory; return the extra memory of the probe."""
    tiny = features(100, 20, 8)
    train, test = (tuple(one) for one in features(count, 1000, width))
    penalties: dict[str, Any] = {"penalties": (1e-3, 1e-1)} if kind == "linear" else {}
    probe: Any = linear_probe if kind == "linear" else knn_probe
    probe(nn.Identity(), *map(tuple, tiny), **penalties)
    predictions: list[Any] = []
    extra = extra_own_mib(
        lambda: predictions.append(probe(nn.Identity(), train, test, **penalties, **budget).predictions.tolist())
    )
    return {"extra": extra, "predictions": predictions[0]}


def probe_memory(effort: Effort) -> Row:
    """Probe growing numbers of features with and without a memory budget; the predictions must agree."""
    budget, width = effort.of(12, 1), effort.of(1024, 32)
    points = []
    for kind in ("linear", "knn"):
        for count in (effort.of(count, count // 50) for count in (10_000, 20_000, 40_000, 80_000)):
            free, tight = (in_child(probe_peak, kind, count, width, each) for each in ({}, {"memory": budget * MIB}))
            if free["predictions"] != tight["predictions"]:
                raise Unequal(f"{kind}_probe has different predictions with memory={budget * MIB}")
            points.append(
                {
                    "probe": f"{kind}_probe",
                    "features": f"{count} x {width}",
                    "MiB of features": 4 * count * width / MIB,
                    "extra MiB": free["extra"],
                    f"extra MiB, memory={budget} MiB": tight["extra"],
                }
            )
    return {"points": points}


COMPARISONS = [
    Comparison("images/s of pretrain, 1,000 to 1,000,000 images", "the fastest size", images_per_second, 0.95),
    Comparison("memory of probes on features", "the features themselves", probe_memory, None),
]
