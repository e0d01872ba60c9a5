"""Pretrain on several processes, GPUs or hosts, and go on where a killed run stopped.

    python examples/distributed_pretrain.py                                    # one process
    torchrun --nproc-per-node 2 examples/distributed_pretrain.py               # two, or as many as there are GPUs
    TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 torchrun --nproc-per-node 2 --max-restarts 3 \
        examples/distributed_pretrain.py                                       # all again, when one is killed
    torchrun --nnodes 2 --nproc-per-node 8 --rdzv-backend c10d --rdzv-endpoint host0:29500 \
        examples/distributed_pretrain.py                                       # on each of two hosts

The variable keeps processes that are started again from looking for those before them (pytorch/pytorch#135712). The
processes talk by NCCL on GPUs and by gloo on CPUs. The first one writes a checkpoint every half minute and at the
end, goes on from it when the command is repeated, and probes the features.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

import pretextkit as pk
from pretextkit.functional import knn_probe, linear_probe, pretrain


@contextmanager
def process_group() -> Iterator[tuple[int, int]]:
    """Join the processes that torchrun started; give this one's rank, and how many there are."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        yield 0, 1
        return
    torch.distributed.init_process_group()  # NCCL for what lies on GPUs, gloo for what does not
    yield torch.distributed.get_rank(), torch.distributed.get_world_size()
    torch.distributed.destroy_process_group()  # not after an error: the others might never come


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="sample", help="anything pretextkit.data.load takes")
    parser.add_argument("--task", default="simclr", choices=list(pk.pretext_tasks))
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=256, help="of all processes together")
    parser.add_argument("--accumulate", type=int, default=1, help="parts that a process computes its share in")
    parser.add_argument("--images", type=int, help="train and probe on the first so many")
    parser.add_argument("--out", type=Path, default=Path("out/distributed"))
    options = parser.parse_args()

    with process_group() as (rank, processes):
        data = pk.data.load(options.data)
        images = data.train_images[: options.images]
        torch.manual_seed(0)
        task = pk.pretext_tasks[options.task](pk.backbones["small-cnn"]())
        result = pretrain(
            task,
            images,
            epochs=options.epochs,
            batch_size=options.batch_size,
            accumulate=options.accumulate,
            checkpoint=options.out / "checkpoint",
        )
        if rank == 0:
            train = (images, data.train_labels[: options.images])
            linear = linear_probe(task.backbone, train, data.test, layers="all")
            neighbors = knn_probe(task.backbone, train, data.test)
            print(f"{options.task} on {processes} processes, from step {result.resumed_at}: {result}")
            print(f"linear probe, best stage: {linear.accuracy:.1%} ({linear.layer}); kNN: {neighbors.accuracy:.1%}")
            report = {
                "task": options.task,
                "processes": processes,
                "device": result.device,
                "images_per_second": result.images_per_second,
                "linear_best": linear.accuracy,
                "knn": neighbors.accuracy,
            }
            (options.out / "distributed.json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
