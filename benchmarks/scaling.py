"""Measure how pretraining scales over the cores of this machine, with processes and with threads.

    python benchmarks/scaling.py --out docs/figures/scaling-measured.json   # about six minutes on two quiet cores
    python benchmarks/scaling.py --quick                                    # test run; its numbers mean nothing

``pretrain`` runs on the embedded sample, in processes of one thread each that communicate by gloo. Strong scaling
splits one batch among the processes, weak scaling gives each process a full batch; the alternative is one process with
as many threads. All arrangements run alternately, every second round in reverse order, and each is compared with one
process of one thread in the same round. The communication of the gradients and of NT-Xent's embeddings is measured
separately, without overlap.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import torch
from comparisons.timing import Effort, Row, seconds
from speed import environment, revision

import pretextkit as pk
from pretextkit.distributed import Rank, collective_scope, gather_rows
from pretextkit.functional import pretrain

BATCH, WIDTH = 256, 128  # images in a step of one process; width of a projection
Everywhere = Callable[..., list[Any]]
"""Call a function on every process and return the results."""


@dataclass(frozen=True)
class Training:
    """Task, backbone and length of a training."""

    task: str
    backbone: str
    options: tuple[tuple[str, Any], ...] = ()
    steps: int = 8

    @property
    def name(self) -> str:
        return ", ".join([self.task, self.backbone, *(f"{key} {value}" for key, value in self.options)])

    def make(self) -> pk.PretextTask[Any, Any]:
        """Create the task, always with the same weights."""
        torch.manual_seed(0)
        return pk.pretext_tasks[self.task](pk.backbones[self.backbone](**dict(self.options)))


TRAININGS = (
    Training("rotation", "small-cnn"),
    Training("simclr", "small-cnn"),
    Training("simclr", "resnet18", (("stem", "imagenet"),), steps=4),
)


class Arrangement(NamedTuple):
    """Distribution of a training over the cores."""

    several: bool
    """Whether several processes train together."""
    threads: int
    """Threads of each process."""
    batches: int
    """Size of a step in batches of one process."""


def arrangements(processes: int) -> dict[str, Arrangement]:
    """Return the arrangements; the first is the reference."""
    return {
        "one process": Arrangement(False, 1, 1),
        "strong": Arrangement(True, 1, 1),
        "weak": Arrangement(True, 1, processes),
        "threads": Arrangement(False, processes, 1),
    }


def rate(training: Training, images: int, threads: int, steps: int) -> float:
    """Train in this process, together with others in its group; return images per second."""
    torch.set_num_threads(threads)
    data = pk.data.load("sample").train_images
    task = training.make()
    task.backbone.normalization.measure(data)
    result = pretrain(task, data, steps=steps, batch_size=images, device="cpu", progress=False)
    return result.images_per_second


def communication(training: Training, images: int, repeats: int) -> Row:
    """Time the communication of a step without overlap: all-reduce of gradients and gather of embeddings."""
    rank = Rank(torch.distributed.get_rank(), torch.distributed.get_world_size())
    gradients = torch.zeros(sum(weight.numel() for weight in training.make().parameters()))
    rows = torch.rand(2 * images, WIDTH, requires_grad=True)

    def gather() -> None:
        with collective_scope(rank):
            torch.autograd.backward(gather_rows(rows).sum())

    found = {}
    for name, send in {"gradients": lambda: torch.distributed.all_reduce(gradients), "gather": gather}.items():
        send()
        found[name] = statistics.median(seconds(send) for _ in range(repeats))
    return {**found, "weights": len(gradients)}


def measure_arrangements(measure: Callable[[Arrangement], float], processes: int, rounds: int) -> dict[str, Row]:
    """Run all arrangements alternately and compare each with the first.

    Args:
        measure: Returns the images per second of an arrangement.
        processes: Number of processes.
        rounds: Number of runs of each arrangement, after one warm-up run.

    Returns:
        Median images per second, and median, lowest and highest ratio to one process, for each arrangement.
    """
    every = arrangements(processes)
    first, *_ = every
    found: list[dict[str, float]] = []
    for number in range(-1, rounds):
        order = list(every)[:: -1 if number % 2 else 1]
        found.append({name: measure(every[name]) for name in order})
    del found[0]
    rows: dict[str, Row] = {}
    for name in every:
        ratios = sorted(each[name] / each[first] for each in found)
        rows[name] = {
            "images_per_second": statistics.median(each[name] for each in found),
            "ratio": statistics.median(ratios),
            "lowest": ratios[0],
            "highest": ratios[-1],
        }
    return rows


def _work(rank: int, processes: int, folder: str, pipe: Connection) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=processes)
    while (job := pipe.recv()) is not None:
        function, *arguments = job
        pipe.send(function(*arguments))
    torch.distributed.destroy_process_group()


@contextmanager
def started(processes: int) -> Iterator[Everywhere]:
    """Start processes that wait for functions to call, without using a core."""
    context = torch.multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        pipes, workers = [], []
        for rank in range(processes):
            here, there = context.Pipe()
            worker = context.Process(target=_work, args=(rank, processes, folder, there), daemon=True)
            worker.start()
            there.close()  # only the worker keeps its end: if the worker fails, the pipe closes
            pipes.append(here)
            workers.append(worker)

        def everywhere(*job: Any) -> list[Any]:
            for pipe in pipes:
                pipe.send(job)
            return [pipe.recv() for pipe in pipes]

        try:
            yield everywhere
            for pipe in pipes:
                pipe.send(None)
            for worker in workers:
                worker.join()
        finally:
            for worker in workers:
                worker.kill()  # a worker may wait for another that failed


def measure_training(training: Training, everywhere: Everywhere, processes: int, effort: Effort, rounds: int) -> Row:
    """Measure one training in every arrangement, and its communication."""
    batch, steps = effort.of(BATCH, 8), effort.of(training.steps, 1)

    def measure(arrangement: Arrangement) -> float:
        job = (training, batch * arrangement.batches, arrangement.threads, steps)
        return min(everywhere(rate, *job)) if arrangement.several else rate(*job)

    found = measure_arrangements(measure, processes, effort.of(rounds, 1))
    communicated = everywhere(communication, training, batch, effort.of(20, 1))[0]
    return {"training": asdict(training), "batch": batch, "arrangements": found, "communication": communicated}


def tables_of(rows: dict[str, Row], processes: int) -> dict[str, Any]:
    """Arrange the tables of the report."""
    compared, sent = {}, {}
    for name, row in rows.items():
        first, *others = row["arrangements"].values()
        compared[name] = [f"{first['images_per_second']:,.0f}"] + [
            f"{one['ratio']:.2f} ({one['lowest']:.2f} to {one['highest']:.2f}), {one['ratio'] / processes:.0%}"
            for one in others
        ]
        found = row["communication"]
        contrastive = row["training"]["task"] == "simclr"
        sent[name] = [
            f"{4e-6 * found['weights']:.1f}",
            f"{1e3 * found['gradients']:.1f}",
            f"{1e3 * found['gather']:.1f}" if contrastive else "",
            f"{1e3 * row['batch'] * processes / row['arrangements']['weak']['images_per_second']:,.0f}",
        ]
    return {
        "Speed": {
            "corner": "",
            "columns": [
                "one process, images/s",
                f"{processes} processes, {BATCH // processes} images each",
                f"{processes} processes, {BATCH} images each",
                f"one process, {processes} threads",
            ],
            "rows": compared,
        },
        "Communication": {
            "corner": "",
            "columns": [
                "gradients, MB",
                "all-reduce of gradients, ms",
                "gather of embeddings, forward and backward, ms",
                "full step, ms",
            ],
            "rows": sent,
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=2, help="number of processes, at most the number of cores")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="tiny sizes, one round; not for quoting")
    parser.add_argument("--out", type=Path, help="the report; by default out/scaling.json, or out/scaling-quick.json")
    options = parser.parse_args()
    out: Path = options.out or Path("out/scaling-quick.json" if options.quick else "out/scaling.json")
    rows = {}
    with started(options.processes) as everywhere:
        for training in TRAININGS:
            row = measure_training(training, everywhere, options.processes, Effort(options.quick), options.rounds)
            rows[training.name] = row
            for name, found in row["arrangements"].items():
                print(f"{training.name}, {name}: {found['images_per_second']:,.0f} images/s, {found['ratio']:.2f}")
            sent = row["communication"]
            print(f"{training.name}: gradients {sent['gradients']:.4f} s, gather {sent['gather']:.4f} s", flush=True)
    report = {
        "command": shlex.join(["python", *sys.argv]),
        "quick": options.quick,
        "processes": options.processes,
        "rounds": options.rounds,
        "revision": revision(),
        "tables": tables_of(rows, options.processes),
        "rows": rows,
        "environment": {key: value for key, value in environment().items() if key != "threads"},  # in the columns
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()
