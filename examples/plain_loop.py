"""Pretrain in a plain PyTorch loop: python examples/plain_loop.py --steps 200"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

import pretextkit as pk


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--out", type=Path, default=Path("out/plain_loop"))
    args = parser.parse_args()
    images = pk.data.load("sample").train.images  # n c h w, uint8
    generator = torch.Generator().manual_seed(0)
    task = pk.tasks.Rotation(pk.backbones["torchvision/resnet18"]())
    task.backbone.normalization.measure(images)  # pretrain does this; a loop of your own must
    optimizer = torch.optim.AdamW(task.parameters(), lr=1e-3)
    for step in range(args.steps):
        batch = images[torch.randint(len(images), (64,), generator=generator)]
        output = pk.functional.run_step(task, batch, generator)  # the same with a wrapper around the task
        optimizer.zero_grad()
        torch.autograd.backward(output.loss)
        optimizer.step()
        task.after_step()  # momentum copies and queues
        print(step, output.loss.item(), float(output.metrics["accuracy"]))
    args.out.mkdir(parents=True, exist_ok=True)
    pk.save_backbone(task.backbone, args.out / "backbone.pt")  # the normalization goes along


if __name__ == "__main__":
    main()
