"""Time what a user waits for against what it could be compared with, both sides in turn in one process.

    python benchmarks/speed.py --out benchmarks/results/cpu.json

Each comparison first checks that both sides compute the same thing where they should, then alternates them, and
reports the median of the ratios of neighbouring runs and their spread.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.transforms import v2

import pretextkit as pk
from pretextkit.functional import nt_xent_loss, pretrain
from pretextkit.training import resolve_precision

ROUNDS = 7


def compare(ours: Callable[[], object], theirs: Callable[[], object], rounds: int = ROUNDS) -> dict[str, Any]:
    """Run both in turn; a ratio above 1 says that ours is faster."""
    ours(), theirs()
    pairs = [(seconds(theirs), seconds(ours)) for _ in range(rounds)]
    ratios = sorted(slow / fast for slow, fast in pairs)
    return {
        "ratio": statistics.median(ratios),
        "lowest": ratios[0],
        "highest": ratios[-1],
        "our_seconds": statistics.median(fast for _, fast in pairs),
        "their_seconds": statistics.median(slow for slow, _ in pairs),
        "rounds": rounds,
    }


def seconds(run: Callable[[], object]) -> float:
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


def simclr_views(size: int) -> dict[str, Any]:
    """Two SimCLR views of 64 images: batched, and by torchvision image by image."""
    images = torch.rand(64, 3, size, size)
    task = pk.tasks.SimCLR(pk.models.SmallCNN())
    generator = torch.Generator().manual_seed(0)
    strength = 0.8 * task.jitter
    transform = v2.Compose(
        [
            v2.RandomResizedCrop(size, scale=task.crop_scale, antialias=True),
            v2.RandomHorizontalFlip(),
            v2.RandomApply([v2.ColorJitter(strength, strength, strength, 0.2 * task.jitter)], 0.8),
            v2.RandomGrayscale(task.grayscale),
        ]
    )
    return compare(
        lambda: task.views(images, generator),
        lambda: [torch.stack([transform(image) for image in images]) for _ in range(2)],
    )


def contrastive_loss(batch: int) -> dict[str, Any]:
    """NT-Xent forward and backward: ours, and the dense formula."""
    z_a, z_b = (torch.randn(batch, 128, requires_grad=True) for _ in range(2))

    def dense() -> Tensor:
        z = nn.functional.normalize(torch.cat([z_a, z_b]))
        logits = (z @ z.T / 0.5).masked_fill(torch.eye(2 * batch, dtype=torch.bool), -torch.inf)
        return nn.functional.cross_entropy(logits, torch.arange(2 * batch).roll(batch))

    def gradient(loss: Callable[[], Tensor]) -> tuple[Tensor, ...]:
        return torch.autograd.grad(loss(), (z_a, z_b))

    def ours() -> Tensor:
        return nt_xent_loss(z_a, z_b, temperature=0.5)

    torch.testing.assert_close(gradient(ours), gradient(dense))
    return compare(lambda: gradient(ours), lambda: gradient(dense))


def pretraining(name: str) -> dict[str, Any]:
    """Images per second of ``pretrain``, and of the bare step on one fixed batch of its views."""
    images = torch.randint(256, (2048, 3, 32, 32), dtype=torch.uint8)
    task = pk.tasks.SimCLR(pk.backbones[name]())
    steps, batch_size = (4, 64) if name == "resnet18" else (12, 128)
    views = task.views(images[:batch_size] / 255, torch.Generator())
    bare = pk.tasks.SimCLR(pk.backbones[name]()).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(bare.parameters(), 1e-3, fused=True)
    dtype = {"bf16": torch.bfloat16}.get(resolve_precision("auto", torch.device("cpu")))

    def step() -> None:
        for _ in range(steps):
            with torch.autocast("cpu", dtype, enabled=dtype is not None):
                loss = bare(views).loss
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            optimizer.step()

    return compare(lambda: pretrain(task, images, steps=steps, batch_size=batch_size, progress=False), step, rounds=5)


COMPARISONS: dict[str, Callable[[], dict[str, Any]]] = {
    "two SimCLR views, 32x32, against torchvision image by image": lambda: simclr_views(32),
    "two SimCLR views, 96x96, against torchvision image by image": lambda: simclr_views(96),
    "NT-Xent with gradient, batch 512, against the dense formula": lambda: contrastive_loss(512),
    "NT-Xent with gradient, batch 2048, against the dense formula": lambda: contrastive_loss(2048),
    "pretrain small-cnn with SimCLR, against the bare step": lambda: pretraining("small-cnn"),
    "pretrain resnet18 with SimCLR, against the bare step": lambda: pretraining("resnet18"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/cpu.json"))
    options = parser.parse_args()
    torch.manual_seed(0)
    rows = []
    for name, run in COMPARISONS.items():
        row = run()
        rows.append({"name": name, **row})
        print(f"{name}: {row['ratio']:.2f}x ({row['lowest']:.2f} to {row['highest']:.2f})", flush=True)
    report = {
        "rows": rows,
        "environment": {
            "pretextkit": pk.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "machine": platform.machine(),
            "threads": torch.get_num_threads(),
        },
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
