"""Pretrain a backbone with sharded weights, by torch's ``fully_shard`` (FSDP2).

    torchrun --standalone --nproc-per-node 2 examples/fsdp_pretrain.py    # one process for each GPU
    python examples/fsdp_pretrain.py                                      # one process, not sharded

For backbones whose weights, gradients and optimizer state do not fit on one GPU: each process keeps one shard of them
and gathers the weights of a block while the block computes. If they fit, ``distributed_pretrain.py`` communicates less.
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
    """Shard the weights of each block, inner blocks first, and then the remaining weights."""
    from torch.distributed.fsdp import fully_shard

    for block in reversed(list(task.backbone.modules())):
        if isinstance(block, nn.Sequential):
            fully_shard(block)
    fully_shard(task)


def full_weights(backbone: nn.Module) -> dict[str, Any]:
    """Gather the full weights of a backbone; only rank 0 receives them."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    return get_model_state_dict(backbone, options=StateDictOptions(full_state_dict=True, cpu_offload=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="sample", help="any source of pretextkit.data.load")
    parser.add_argument("--task", default="simclr", choices=list(pk.pretext_tasks))
    parser.add_argument("--backbone", default="small-cnn", choices=list(pk.backbones))
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=256, help="total over all processes")
    parser.add_argument("--images", type=int, help="number of images to train and probe on; all by default")
    parser.add_argument("--out", type=Path, default=Path("out/fsdp"))
    options = parser.parse_args()

    several = "TORCHELASTIC_RUN_ID" in os.environ
    if several:
        torch.distributed.init_process_group()  # NCCL for tensors on GPUs, gloo for tensors on CPUs
    is_rank_0 = not several or torch.distributed.get_rank() == 0
    data = pk.data.load(options.data)
    images, labels = data.train_images[: options.images], data.train_labels[: options.images]
    torch.manual_seed(0)  # every process creates the same weights and keeps its shard
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
    weights = full_weights(task.backbone) if several else task.backbone.state_dict()
    if is_rank_0:
        backbone = pk.backbones[options.backbone]()
        backbone.load_state_dict(weights)
        probe = linear_probe(backbone, (images, labels), data.test)
        parts: list[Any] = list(task.parameters())
        total = sum(part.numel() for part in parts)
        here = sum(part.to_local().numel() for part in parts) if several else total
        print(f"{options.task}, {here:,} of {total:,} weights on rank 0: {result}")
        print(f"linear probe: {probe.accuracy:.1%}")
        report = {"task": options.task, "weights": total, "here": here, "linear": probe.accuracy}
        (options.out / "fsdp.json").write_text(json.dumps(report, indent=1) + "\n")
    if several:
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
