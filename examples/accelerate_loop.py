"""Pretrain under Accelerate, here in two processes: python examples/accelerate_loop.py --steps 200"""

import argparse
from pathlib import Path

import accelerate
import torch

import pretextkit as pk


def train(steps: int, out: Path) -> None:
    accelerator = accelerate.Accelerator(cpu=True)
    images = pk.data.load("sample").train.images  # n c h w, uint8
    generator = torch.Generator().manual_seed(accelerator.process_index)  # each process draws its own views
    task = pk.tasks.Rotation(pk.backbones["torchvision/resnet18"]())
    task.backbone.normalization.measure(images)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(images), 32, shuffle=True)
    optimizer = torch.optim.AdamW(task.parameters(), lr=1e-3)
    wrapped, optimizer, loader = accelerator.prepare(task, optimizer, loader)
    for _, (batch,) in zip(range(steps), loader, strict=False):
        output = pk.functional.run_step(wrapped, batch, generator)  # averages the gradients of both processes
        optimizer.zero_grad()
        accelerator.backward(output.loss)
        optimizer.step()
        task.after_step()  # momentum copies and queues
    same = accelerator.gather(next(iter(task.parameters())).detach().flatten()[:1])
    accelerator.print("the same weights in all processes:", bool((same == same[0]).all()), len(same))
    accelerator.save(task.backbone.state_dict(), out / "backbone.pt")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("out/accelerate_loop"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    accelerate.debug_launcher(train, (args.steps, args.out), num_processes=2)
