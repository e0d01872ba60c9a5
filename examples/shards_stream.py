"""Pretrain on a stream of tar shards, with several processes and workers; each image is read once per epoch.

    python examples/shards_stream.py --workers 2
    torchrun --nproc-per-node 2 examples/shards_stream.py --workers 2

A shard is a plain tar file of PNG images, the format of webdataset. A ``webdataset.WebDataset`` that splits its shards
by process and worker can replace ``Shards``; give it a length: ``WebDataset(...).with_length(n)``.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import IterableDataset

import pretextkit as pk
from pretextkit.functional import knn_probe, pretrain


def write_shards(images: Tensor, folder: Path, count: int) -> list[Path]:
    """Write uint8 images ``n c h w`` as PNG files into ``count`` tar files of equal size; drop the remainder."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for shard, part in enumerate(images[: len(images) // count * count].chunk(count)):
        paths.append(folder / f"{shard:05}.tar")
        with tarfile.open(paths[-1], "w") as tar:
            for number, image in enumerate(part):
                file = io.BytesIO()
                Image.fromarray(image.permute(1, 2, 0).squeeze(2).numpy()).save(file, "png")
                member = tarfile.TarInfo(f"{number:06}.png")
                member.size = file.tell()
                file.seek(0)
                tar.addfile(member, file)
    return paths


class Shards(IterableDataset[Image.Image]):
    """The images in the shards of this process and worker, shuffled within each shard in every epoch."""

    def __init__(self, shards: Sequence[Path], length: int) -> None:
        self.shards, self.length = shards, length

    def __len__(self) -> int:
        return self.length  # of all shards, over all processes and workers

    def __iter__(self) -> Iterator[Image.Image]:
        for shard in pk.data.shards_for_this_worker(self.shards):
            with tarfile.open(shard) as tar:
                members = tar.getmembers()
                for place in torch.randperm(len(members)).tolist():
                    file = tar.extractfile(members[place])
                    assert file is not None
                    yield Image.open(file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="sample", help="any source of pretextkit.data.load")
    parser.add_argument("--task", default="rotation", choices=list(pk.pretext_tasks))
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=128, help="total over all processes")
    parser.add_argument("--images", type=int, help="number of images; all by default")
    parser.add_argument("--shards", type=int, default=8, help="a multiple of processes x workers")
    parser.add_argument("--workers", type=int, default=0, help="workers of each process")
    parser.add_argument("--out", type=Path, default=Path("out/shards"))
    options = parser.parse_args()

    rank = 0
    if "TORCHELASTIC_RUN_ID" in os.environ:  # started by torchrun
        torch.distributed.init_process_group()
        rank = torch.distributed.get_rank()
    data = pk.data.load(options.data)
    images = data.train_images[: options.images]
    folder = options.out / f"shards-{rank}"  # hosts do not share a disk, so each process writes its own shards
    paths = write_shards(images, folder, options.shards)
    torch.manual_seed(0)
    task = pk.pretext_tasks[options.task](pk.backbones["small-cnn"]())
    shards = Shards(paths, len(images) // options.shards * options.shards)
    result = pretrain(task, shards, epochs=options.epochs, batch_size=options.batch_size, workers=options.workers)
    if rank == 0:
        neighbors = knn_probe(task.backbone, (images, data.train_labels[: options.images]), data.test)
        print(f"{options.task} on {len(paths)} shards: {result}")
        print(f"kNN: {neighbors.accuracy:.1%}")
        report = {"shards": len(paths), "images_per_second": result.images_per_second, "knn": neighbors.accuracy}
        (options.out / "shards.json").write_text(json.dumps(report, indent=1) + "\n")
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
