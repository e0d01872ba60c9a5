"""Reading a folder of JPEG files at 224x224 and training from it, compared with torchvision's folder and loader."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from profile_step import profile_of
from torch.utils.data import DataLoader

import pretextkit as pk
from comparisons.synthetic import save_jpegs
from comparisons.timing import Comparison, Effort, Row, race, require_close
from pretextkit.data import FolderImages, ImageSource, as_source
from pretextkit.functional import pretrain

SIDE, WORKERS = 224, 2

Reader = Callable[[Path, int], Any]
"""From a folder and a batch size to a source of ``pretrain``."""


@contextmanager
def folder(count: int) -> Iterator[Path]:
    """Create a temporary folder of JPEG files."""
    with TemporaryDirectory() as name:
        save_jpegs(Path(name), count)
        yield Path(name)


def torchvision_loader(root: Path, batch: int) -> DataLoader[Any]:
    """Read like torchvision's examples: ImageFolder, resized shorter side, center crop, two workers."""
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import v2

    transform = v2.Compose(
        [v2.PILToTensor(), v2.Resize(SIDE, antialias=True), v2.CenterCrop(SIDE)]  # uint8, like pretextkit
    )
    generator = torch.Generator().manual_seed(0)
    return DataLoader(
        ImageFolder(str(root), transform),
        batch_size=batch,
        shuffle=True,
        drop_last=True,
        num_workers=WORKERS,
        generator=generator,
    )


def reading(effort: Effort) -> Row:
    """Compare the mean of the pixels (within 0.005 of the range), then race over the full folder."""
    batch = effort.of(64, 8)
    with folder(effort.of(768, 16)) as root:

        def ours() -> float:
            source = as_source(FolderImages(root, size=SIDE, cache=False), workers=WORKERS)
            return sum(each.images.float().mean().item() for each in source.in_order(batch)) / 255

        def theirs() -> float:
            loader = torchvision_loader(root, batch)
            return sum(float(images.float().mean()) for images, _ in loader) / 255

        def check(one: float, other: float) -> Row:
            batches = effort.of(768, 16) // batch
            distance = require_close("mean of the pixels", one / batches, other / batches, 0.005)
            return {"pixel_distance": distance}

        return race(ours, theirs, effort, rounds=5, check=check)


def new_task() -> pk.tasks.SimCLR:
    torch.manual_seed(0)
    return pk.tasks.SimCLR(pk.models.ResNet18(stem="imagenet"))


def our_source(root: Path, batch: int) -> ImageSource:
    """Read with pretextkit; the batch size is set later by ``pretrain``."""
    return as_source(FolderImages(root, size=SIDE, cache=False), workers=WORKERS)


def race_of_readers(ours: Reader, theirs: Reader, effort: Effort) -> Row:
    """Train on the same files with two readers."""
    batch = effort.of(64, 8)
    with folder(effort.of(256, 16)) as root:

        def side(task: pk.tasks.SimCLR, read: Reader) -> Callable[[], Any]:
            return lambda: pretrain(task, read(root, batch), epochs=1, batch_size=batch, progress=False)

        return race(side(new_task(), ours), side(new_task(), theirs), effort, rounds=9)


def training(effort: Effort) -> Row:
    """Race pretextkit's reader against torchvision's loader."""
    return race_of_readers(our_source, torchvision_loader, effort)


def training_twice(effort: Effort) -> Row:
    """Race torchvision's loader against itself: the noise of the machine."""
    return race_of_readers(torchvision_loader, torchvision_loader, effort)


def waiting(effort: Effort) -> Row:
    """Return the fraction of the training time spent waiting for files."""
    batch = effort.of(64, 8)
    with folder(effort.of(512, 16)) as root:
        images = FolderImages(root, size=SIDE, cache=False)
        found = profile_of(new_task(), images, batch_size=batch, steps=effort.of(8, 2), workers=WORKERS)
    return {"percent of the time": 100 * found["fraction"]["loader"], "profile": found}


COMPARISONS = [
    Comparison("folder of JPEG files, read at 224x224", "torchvision ImageFolder, 2 workers", reading, 1.0),
    Comparison("folder of JPEG files to steps of resnet18", "torchvision ImageFolder, 2 workers", training, 1.0),
    Comparison("torchvision ImageFolder, 2 workers, to steps of resnet18", "itself", training_twice, None),
    Comparison("folder of JPEG files to steps of resnet18", "waiting for files", waiting, 5.0, "percent of the time"),
]
