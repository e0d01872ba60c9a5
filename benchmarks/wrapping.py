"""Measure what ``wrap`` adds to a training step, and set such a step beside lightly's with the same network.

    python benchmarks/wrapping.py --out docs/figures/wrapping.json    # about ten minutes of one core
    python benchmarks/wrapping.py --quick                             # test run; its numbers mean nothing

A step is a forward and a backward pass of one batch. First both sides compute the same: features and gradients are
equal to the last bit beside the bare network, and losses within 1e-4 beside lightly. Then single steps alternate for
many rounds, every second of which begins with the other side, and each ratio is that of two neighboring steps. On a
CPU, the clock counts the time of this process on one thread, so that other programs disturb it little; on a GPU it
counts seconds until the device has finished. The package lightly (group ``bench``) is needed for its rows only.
"""

from __future__ import annotations

import argparse
import copy
import json
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from comparisons.timing import Unequal, require_close
from torch import Tensor, nn

import pretextkit as pk

NETWORKS = ("torchvision/resnet18", "torchvision/mobilenet_v3_small", "timm/convnext_atto")
TARGET = 1.02
COLUMNS = ["bare, ms", "wrapped, ms", "wrapped / bare", "middle half of the ratios", "rounds"]


def build(name: str) -> tuple[nn.Module, pk.Backbone]:
    """Build a network of a library without its classifier, and the wrapped copy with equal weights."""
    torch.manual_seed(0)
    library, _, model = name.partition("/")
    if library == "timm":
        import timm

        network = timm.create_model(model, num_classes=0)
    else:
        import torchvision

        network = torchvision.models.get_model(model)
        for classifier in ("fc", "classifier"):
            if hasattr(network, classifier):
                setattr(network, classifier, nn.Identity())
    return network, pk.models.wrap(network)


class Normalized(nn.Module):
    """A bare network behind the normalization of pixels, which training with it needs too."""

    def __init__(self, network: nn.Module, normalization: nn.Module) -> None:
        super().__init__()
        self.network, self.normalization = network, normalization

    def forward(self, images: Tensor) -> Tensor:
        network: Any = self.network
        normalized = self.normalization(images)
        if hasattr(network, "forward_features"):  # timm normalizes some features once more before the classifier
            features: Tensor = network.forward_features(normalized).mean((2, 3))
        else:
            features = network(normalized)
        return features


def step_of(model: nn.Module, loss: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """Return a forward and a backward pass, without an optimizer, which costs the same on both sides."""

    def step() -> Tensor:
        model.zero_grad(set_to_none=True)
        found = loss()
        torch.autograd.backward(found)
        return found.detach()

    return step


def clock(device: torch.device) -> float:
    """Return the seconds of this process on the CPU, or the time at which the GPU has finished."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return time.perf_counter()
    return time.process_time()


def alternate(theirs: Callable[[], Tensor], ours: Callable[[], Tensor], rounds: int, device: torch.device) -> Any:
    """Run both sides alternately; return the median of the ratios of neighboring steps, and the middle half of them."""
    pairs = []
    for number in range(-2, rounds):  # the first two warm up
        sides, seconds = (theirs, ours)[:: -1 if number % 2 else 1], []
        for side in sides:
            begun = clock(device)
            side()
            seconds.append(clock(device) - begun)
        pairs.append(seconds[:: -1 if number % 2 else 1])
    ratios = [ours / theirs for theirs, ours in pairs[2:]]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return {
        "their_seconds": statistics.median(pair[0] for pair in pairs[2:]),
        "our_seconds": statistics.median(pair[1] for pair in pairs[2:]),
        "ratio": middle,
        "lower_quartile": low,
        "upper_quartile": high,
        "rounds": rounds,
    }


def beside_bare(name: str, images: Tensor, rounds: int) -> dict[str, Any]:
    """Compare features and gradients with those of the bare network, then alternate steps."""
    network, backbone = build(name)
    bare = Normalized(network, copy.deepcopy(backbone.normalization)).to(images.device).train()
    backbone = backbone.to(images.device).train()
    direction = torch.randn(len(images), backbone.feature_dim, device=images.device)
    sides = [
        step_of(model, lambda model=model: (model(images) * direction).sum())  # type: ignore[misc]
        for model in (bare, backbone)
    ]
    state = torch.get_rng_state()
    losses = []
    for side in sides:
        torch.set_rng_state(state)  # of layers that draw
        losses.append(float(side()))
    require_close(f"{name}: features", losses[1], losses[0], 1e-4 * abs(losses[0]))
    gradients = [{key: value.grad for key, value in each.named_parameters()} for each in (bare, backbone)]
    for key, expected in gradients[1].items():
        found = gradients[0][key]
        same = found is expected if found is None or expected is None else torch.allclose(found, expected)
        if not same:
            raise Unequal(f"{name}: the gradients of {key} differ")
    return dict(alternate(sides[0], sides[1], rounds, images.device))


def beside_lightly(images: Tensor, rounds: int) -> dict[str, Any]:
    """Compare the losses of SimCLR on the same two views, then alternate steps."""
    from lightly.loss import NTXentLoss
    from lightly.models.modules import SimCLRProjectionHead

    network, backbone = build("torchvision/resnet18")
    task = pk.tasks.SimCLR(backbone, augmentation=lambda images, generator: images)
    width = task.head(torch.zeros(2, backbone.feature_dim)).shape[1]
    head = SimCLRProjectionHead(backbone.feature_dim, backbone.feature_dim, width)
    bare = Normalized(network, copy.deepcopy(backbone.normalization))
    theirs, task = nn.Sequential(bare, head).to(images.device).train(), task.to(images.device).train()
    criterion = NTXentLoss(temperature=task.temperature)
    mirrored = images.flip(3)
    features = [torch.randn(len(images), width, device=images.device) for _ in range(2)]
    ours = pk.functional.nt_xent_loss(*features, temperature=task.temperature)
    require_close("NT-Xent", float(ours), float(criterion(*features)), 1e-4)
    batch = pk.TwoViews(images, mirrored)
    sides = (
        step_of(theirs, lambda: criterion(theirs(images), theirs(mirrored))),
        step_of(task, lambda: task(batch).loss),
    )
    return dict(alternate(*sides, rounds, images.device))


def cells(row: dict[str, Any]) -> list[str]:
    """Format the cells of a row."""
    times = [f"{1000 * row[side]:.1f}" for side in ("their_seconds", "our_seconds")]
    return [
        *times,
        f"{row['ratio']:.3f}",
        f"{row['lower_quartile']:.3f} to {row['upper_quartile']:.3f}",
        str(row["rounds"]),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=NETWORKS, help="torchvision/... and timm/...")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--size", type=int, default=64, help="side of the images in pixels")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--no-lightly", action="store_true", help="leave out the row that needs lightly")
    parser.add_argument("--quick", action="store_true", help="few rounds of small images; not for quoting")
    parser.add_argument("--out", type=Path, default=Path("out/wrapping.json"))
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.size, options.batch_size = 4, 32, 4
    torch.set_num_threads(1)
    device = torch.device(options.device)
    images = torch.rand(options.batch_size, 3, options.size, options.size, generator=torch.Generator().manual_seed(0))
    rows = {}
    for name in options.networks:
        rows[f"forward and backward pass, {name}"] = beside_bare(name, images.to(device), options.rounds)
        print(*rows.items(), sep="\n", flush=True)
    beside = {}
    if not options.no_lightly:
        beside["step of SimCLR, torchvision/resnet18"] = beside_lightly(images.to(device), options.rounds)
        print(beside, flush=True)
    report = {
        "command": shlex.join(["python", "benchmarks/wrapping.py", *sys.argv[1:]]),
        "data": f"random pixels, {options.batch_size} images of 3x{options.size}x{options.size}",
        "quick": options.quick,
        "target": TARGET,
        "tables": {
            "Wrapped and bare networks": {
                "corner": "step", "columns": COLUMNS, "rows": {name: cells(row) for name, row in rows.items()}
            },
            **({"Beside lightly": {
                "corner": "step", "columns": ["lightly, ms", "pretextkit, ms", "pretextkit / lightly", *COLUMNS[3:]],
                "rows": {name: cells(row) for name, row in beside.items()}
            }} if beside else {}),
        },
        "rows": {**rows, **beside},
        "environment": {
            "torch": torch.__version__, "python": platform.python_version(), "machine": platform.machine(),
            "threads": 1, "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        },
    }  # fmt: skip
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()
