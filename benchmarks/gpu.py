"""SimCLR with ResNet-18 and CIFAR-10 on one GPU in bf16: epochs compared with bare steps, and time to a kNN accuracy.

    python benchmarks/gpu.py --data cifar10 --out out/gpu.json                 # seconds per epoch; two minutes
    python benchmarks/gpu.py --data cifar10 --epochs 800 --run out/gpu-run --out out/gpu.json   # and the time to 90 %

Needs an NVIDIA GPU and torch 2.4 or newer. ``--data`` takes any source of ``pretextkit.data.load``. With ``--run``, a
repeated command resumes a stopped training. Every ``--every`` epochs, the nearest-neighbor probe measures the test
accuracy; its time is not counted as training time, and nothing is chosen by it.
"""

from __future__ import annotations

import argparse
import copy
import json
import platform
import shlex
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from comparisons.timing import Effort, race
from torch import Generator, Tensor

import pretextkit as pk
from pretextkit.functional import knn_probe, pretrain

GOAL = 0.9
PUBLISHED = "11.9 s an epoch for a single-file SimCLR (dkobak/simclr-cifar10) on an A100, with another loader and batch"


def synchronized(run: Callable[[], object], device: torch.device) -> Callable[[], None]:
    """Let a run end only after the device has finished."""

    def run_and_wait() -> None:
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return run_and_wait


def new_task(images: Tensor) -> pk.tasks.SimCLR:
    torch.manual_seed(0)
    task = pk.tasks.SimCLR(pk.models.ResNet18(stem="small"))
    task.backbone.normalization.measure(images)
    return task


def beside_bare_step(images: Tensor, device: torch.device, options: argparse.Namespace) -> dict[str, Any]:
    """Race epochs of ``pretrain`` against the same number of training steps on one fixed batch of views."""
    task = new_task(images).to(device)
    bare = copy.deepcopy(task).to(memory_format=torch.channels_last).train()
    views = task.views(images[: options.batch_size].to(device).float() / 255, Generator().manual_seed(0))
    optimizer = torch.optim.AdamW(bare.parameters(), 1e-3, fused=True)
    steps = len(images) // options.batch_size

    def epoch() -> None:
        for _ in range(steps):
            with torch.autocast(device.type, torch.bfloat16):
                loss = bare(views).loss
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            optimizer.step()

    def ours() -> None:
        pretrain(task, images, epochs=1, batch_size=options.batch_size, precision="bf16", device=device, progress=False)

    row = race(synchronized(ours, device), synchronized(epoch, device), Effort(), rounds=options.rounds)
    return {**row, "images_per_second": steps * options.batch_size / row["our_seconds"], "published": PUBLISHED}


def time_to_goal(data: Any, images: Tensor, device: torch.device, options: argparse.Namespace) -> dict[str, Any]:
    """Train once with regular probes; return the curve and the first point at the goal."""
    task = new_task(images)
    path = None if options.run is None else options.run / "curve.json"
    points: dict[int, dict[str, float]] = {}
    if path is not None and path.exists():
        points = {int(epoch): point for epoch, point in json.loads(path.read_text()).items()}

    def probe(row: Mapping[str, float]) -> None:
        epoch = round(row["epoch"])
        if epoch % options.every and epoch != options.epochs:
            return
        begun = time.monotonic()
        test = (data.test_images, data.test_labels)
        accuracy = knn_probe(task.backbone, (images, data.train_labels), test, batch_size=1000).accuracy
        # The seconds of the loop include earlier probes; a probe after the last checkpoint is repeated on resume.
        probing = sum(point["probe_seconds"] for number, point in points.items() if number < epoch)
        points[epoch] = {
            "training_seconds": row["seconds"] - probing,
            "knn_accuracy": accuracy,
            "probe_seconds": time.monotonic() - begun,
        }
        print(f"epoch {epoch}: {points[epoch]['training_seconds']:.0f} s, kNN {accuracy:.2%}", flush=True)
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(points, indent=1) + "\n")

    pretrain(
        task,
        images,
        epochs=options.epochs,
        batch_size=options.batch_size,
        optimizer=options.optimizer,
        learning_rate=options.learning_rate,
        precision="bf16",
        device=device,
        checkpoint=None if options.run is None else options.run / "checkpoint",
        progress=False,
        callbacks=[probe],
    )
    reached = [(epoch, point) for epoch, point in sorted(points.items()) if point["knn_accuracy"] >= GOAL]
    return {
        "epochs": options.epochs,
        "optimizer": options.optimizer,
        "goal": GOAL,
        "first_at_goal": {"epoch": reached[0][0], **reached[0][1]} if reached else None,
        "last": {"epoch": max(points), **points[max(points)]},
        "curve": points,
    }


def tables_of(report: Mapping[str, Any]) -> dict[str, Any]:
    """Arrange the tables of the report."""
    row = report["epoch"]
    rows: dict[str, list[str]] = {
        "epoch of pretrain, s": [f"{row['our_seconds']:.2f}", "≤ 4 on an H100"],
        "the same number of bare steps, s": [f"{row['their_seconds']:.2f}", ""],
        "speed relative to bare steps": [f"{row['ratio']:.2f} ({row['lowest']:.2f} to {row['highest']:.2f})", "≥ 0.90"],
    }
    if (goal := report.get("time_to_goal")) is not None:
        first, last = goal["first_at_goal"], goal["last"]
        reached = "not reached" if first is None else f"{first['training_seconds']:.0f} (epoch {first['epoch']})"
        rows[f"training until kNN {GOAL:.0%}, s"] = [reached, ""]
        rows[f"kNN after {last['epoch']} epochs, %"] = [f"{100 * last['knn_accuracy']:.1f}", ""]
    return {"One GPU": {"corner": "", "columns": ["measured", "target"], "rows": rows}}


def measure(device: torch.device, options: argparse.Namespace) -> dict[str, Any]:
    """Measure the epoch time and, on request, the time to the goal."""
    data = pk.data.load(options.data)
    images = data.train_images.to(device)  # 150 MB, copied once
    report: dict[str, Any] = {
        "command": shlex.join(["python", *sys.argv]),
        "data": str(data),
        "batch_size": options.batch_size,
        "epoch": beside_bare_step(images, device, options),
    }
    if options.epochs:
        report["time_to_goal"] = time_to_goal(data, images, device, options)
    report["environment"] = {
        "pretextkit": pk.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
    }
    return {**report, "tables": tables_of(report)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=0, help="epochs of the training to the goal; 0 skips it")
    parser.add_argument("--every", type=int, default=10, help="epochs between probes")
    parser.add_argument("--optimizer", choices=["adamw", "sgd", "lars"], default="adamw")
    parser.add_argument("--learning-rate", type=float, help="the default of pretrain by default")
    parser.add_argument("--run", type=Path, help="folder for the checkpoint and the curve")
    parser.add_argument("--out", type=Path, default=Path("out/gpu.json"))
    options = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("this benchmark needs an NVIDIA GPU, and torch sees none here; benchmarks/speed.py needs none")
    report = measure(torch.device("cuda"), options)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", "utf-8")
    for name, (found, goal) in report["tables"]["One GPU"]["rows"].items():
        print(f"{name}: {found}" + (f" (target {goal})" if goal else ""))


if __name__ == "__main__":
    main()
