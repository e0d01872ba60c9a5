"""Pretrain on several processes, GPUs or hosts, and resume after a kill.

    python examples/distributed_pretrain.py                                    # one process
    torchrun --nproc-per-node 2 examples/distributed_pretrain.py               # two processes; one for each GPU
    TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 torchrun --nproc-per-node 2 --max-restarts 3 \
        examples/distributed_pretrain.py                                       # restart all when one is killed
    torchrun --nnodes 2 --nproc-per-node 8 --rdzv-backend c10d --rdzv-endpoint host0:29500 \
        examples/distributed_pretrain.py                                       # run on each of two hosts

The variable prevents restarted processes from connecting to the ones they replace (pytorch/pytorch#135712). The
processes communicate by NCCL on GPUs and by gloo on CPUs. Rank 0 writes a checkpoint every half minute and at the end,
and probes the features. A repeated command resumes from the checkpoint.
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
    """Join the process group that torchrun started; yield the rank and the world size."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        yield 0, 1
        return
    torch.distributed.init_process_group()  # NCCL for tensors on GPUs, gloo for tensors on CPUs
    yield torch.distributed.get_rank(), torch.distributed.get_world_size()
    torch.distributed.destroy_process_group()  # not after an error: the other processes may have ended


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="sample", help="any source of pretextkit.data.load")
    parser.add_argument("--task", default="simclr", choices=list(pk.pretext_tasks))
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=256, help="total over all processes")
    parser.add_argument(
        "--accumulate", type=int, default=1, help="number of parts that a process splits its batch into"
    )
    parser.add_argument("--images", type=int, help="number of images to train and probe on; all by default")
    parser.add_argument("--out", type=Path, default=Path("out/distributed"))
    options = parser.parse_args()

    with process_group() as (rank, world_size):
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
            print(f"{options.task} on {world_size} processes, from step {result.resumed_at}: {result}")
            print(f"linear probe, best stage: {linear.accuracy:.1%} ({linear.layer}); kNN: {neighbors.accuracy:.1%}")
            report = {
                "task": options.task,
                "processes": world_size,
                "device": result.device,
                "images_per_second": result.images_per_second,
                "linear_best": linear.accuracy,
                "knn": neighbors.accuracy,
            }
            (options.out / "distributed.json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
