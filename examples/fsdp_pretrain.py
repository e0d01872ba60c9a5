"""Pretrain a backbone whose weights are divided among the processes, with torch's ``fully_shard`` (FSDP2).

    torchrun --standalone --nproc-per-node 2 examples/fsdp_pretrain.py    # or as many as there are GPUs
    python examples/fsdp_pretrain.py                                      # one process, nothing divided

For backbones whose weights, gradients and optimizer state do not fit on one GPU: each process keeps its part of them,
and gathers a block's weights while the block computes. Where they do fit, ``distributed_pretrain.py`` sends less.
Needs torch 2.6.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import torch
from torch import nn

import pretextkit as pk
from pretextkit.functional import linear_probe, pretrain


def shard(task: pk.PretextTask[Any, Any]) -> None:
    """Divide the weights of each block, inner ones first, and then all that is left."""
    from torch.distributed.fsdp import fully_shard

    for block in reversed(list(task.backbone.modules())):
        if isinstance(block, nn.Sequential):
            fully_shard(block)
    fully_shard(task)


def whole_weights(backbone: nn.Module) -> dict[str, Any]:
    """Gather a backbone's weights on the first process, whose are complete."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    return get_model_state_dict(backbone, options=StateDictOptions(full_state_dict=True, cpu_offload=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="sample", help="anything pretextkit.data.load takes")
    parser.add_argument("--task", default="simclr", choices=list(pk.pretext_tasks))
    parser.add_argument("--backbone", default="small-cnn", choices=list(pk.backbones))
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=256, help="of all processes together")
    parser.add_argument("--images", type=int, help="train and probe on the first so many")
    parser.add_argument("--out", type=Path, default=Path("out/fsdp"))
    options = parser.parse_args()

    several = "TORCHELASTIC_RUN_ID" in os.environ
    if several:
        torch.distributed.init_process_group()  # NCCL for what lies on GPUs, gloo for what does not
    first = not several or torch.distributed.get_rank() == 0
    data = pk.data.load(options.data)
    images, labels = data.train_images[: options.images], data.train_labels[: options.images]
    torch.manual_seed(0)  # the same on every process, which keeps its part of what it makes
    task = pk.pretext_tasks[options.task](pk.backbones[options.backbone]())
    if several:
        shard(task)
    result = pretrain(
        task,
        images,
        epochs=options.epochs,
        batch_size=options.batch_size,
        checkpoint=options.out / "checkpoint",
    )
    weights = whole_weights(task.backbone) if several else task.backbone.state_dict()
    if first:
        backbone = pk.backbones[options.backbone]()
        backbone.load_state_dict(weights)
        probe = linear_probe(backbone, (images, labels), data.test)
        parts: list[Any] = list(task.parameters())
        whole = sum(part.numel() for part in parts)
        here = sum(part.to_local().numel() for part in parts) if several else whole
        print(f"{options.task}, {here:,} of {whole:,} weights on the first process: {result}")
        print(f"linear probe: {probe.accuracy:.1%}")
        report = {"task": options.task, "weights": whole, "here": here, "linear": probe.accuracy}
        (options.out / "fsdp.json").write_text(json.dumps(report, indent=1) + "\n")
    if several:
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
