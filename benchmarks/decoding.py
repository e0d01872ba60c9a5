"""Compare the reading of 12-megapixel JPEG files with torchvision's ImageFolder, image by image in one process.

    python benchmarks/decoding.py --out docs/figures/decoding.json

Both sides decode with Pillow and give uint8 images of one size; ours reduces while decoding, and keeps the result in
memory, or in a file if asked. First the pixels are compared: their mean must be that of torchvision's within half a
percent of the range, and their mean distance from those of our full decoding, which has the same crop, below one level
of 255. Then both sides read all files in turn. Seconds are those of the processor, so that other programs do not count
as work of ours. A ratio is torchvision's time over ours, of neighboring rounds.
"""

from __future__ import annotations

import argparse
import json
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import PIL
import torch
import torchvision
from PIL import Image

from pretextkit.data import FolderImages
from pretextkit.data._decoding import MAX_PIXELS, decode
from pretextkit.data._resizing import resize

WIDTH, HEIGHT = 4000, 3000
EPOCHS = 4

TARGET = 8.0
"""Least ratio."""

TOLERANCE = 1.0
"""Greatest mean distance of the pixels from a full decoding, in levels of 255."""

MEAN_TOLERANCE = 0.005 * 255
"""Greatest difference of the means of the pixels, in levels of 255."""


def save_pictures(root: Path, count: int) -> None:
    """Write pictures with detail at all scales and the noise of a sensor, 1 to 2 MB each, in one class folder."""
    (root / "class").mkdir(parents=True)
    for number in range(count):
        generator = np.random.default_rng(number)
        picture = np.full((HEIGHT, WIDTH, 3), 128.0, np.float32)
        for scale in (16, 64, 256, 1024, 2048):
            noise = generator.normal(0, 640 / scale, (scale * 3 // 4, scale, 3)).astype(np.float32)
            for channel in range(3):
                layer = Image.fromarray(noise[..., channel]).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
                picture[..., channel] += np.asarray(layer)
        picture += generator.normal(0, 1.5, (HEIGHT, WIDTH, 1))
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(root / "class" / f"{number:03d}.jpg", quality=90)


def torchvision_folder(root: Path, size: int) -> Any:
    """Read like torchvision's examples: ImageFolder, resized shorter side, center crop."""
    from torchvision.transforms import v2

    transform = v2.Compose([v2.PILToTensor(), v2.Resize(size, antialias=True), v2.CenterCrop(size)])
    return torchvision.datasets.ImageFolder(str(root), transform)


def read(images: Any) -> torch.Tensor:
    """Read all images of a dataset."""
    return torch.stack([images[index][0] for index in range(len(images))])


def read_often(images: Any, times: int) -> None:
    """Read all images of a dataset several times."""
    for _ in range(times):
        read(images)


def timed(run: Callable[[], Any]) -> float:
    begun = time.process_time()
    run()
    return time.process_time() - begun


def row(ours: Sequence[float], theirs: Sequence[float], images: int, distance: float) -> dict[str, Any]:
    """Summarize the seconds of the rounds."""
    ratios = sorted(other / one for one, other in zip(ours, theirs, strict=True))
    ratio = statistics.median(ratios)
    return {
        "ours, images/s": f"{images / statistics.median(ours):,.3g}",
        "theirs, images/s": f"{images / statistics.median(theirs):,.3g}",
        "ratio": f"{ratio:.1f}×",
        "lowest to highest": f"{ratios[0]:.1f} to {ratios[-1]:.1f}",
        "target": f"≥ {TARGET:.0f}×",
        "met": "yes" if ratio >= TARGET else "no",
        "distance from full decoding": f"{distance:.2f}",
    }


def measure(root: Path, count: int, size: int, rounds: int) -> dict[str, dict[str, Any]]:
    """Race epochs of the plain call, of a file as it is filled and once it is full, and an epoch without a cache."""
    theirs = torchvision_folder(root, size)
    plain = FolderImages(root, size=size, cache=False)
    found = read(plain).float()
    full = torch.stack([resize(decode(path, MAX_PIXELS)[None], size, "crop")[0] for path in plain.paths])
    distance = (found - full).abs().mean().item()
    if distance > TOLERANCE or (found.mean() - read(theirs).float().mean()).abs() > MEAN_TOLERANCE:
        raise SystemExit(f"The pixels differ, by {distance:.2f} from a full decoding: their times mean nothing.")
    first, peer, default, four, cached = [], [], [], [], []
    for number in range(rounds):
        cache = root.parent / f"cache-{size}-{number}"
        first.append(timed(lambda: read(plain)))
        peer.append(timed(lambda: read(theirs)))
        default.append(timed(partial(read_often, FolderImages(root, size=size), EPOCHS)))
        with_cache = FolderImages(root, size=size, cache=cache)
        four.append(timed(partial(read_often, with_cache, EPOCHS)))
        cached.append(timed(partial(read, with_cache)))
    peer_epochs = [EPOCHS * each for each in peer]
    return {
        f"{size} pixels, {EPOCHS} epochs, defaults": row(default, peer_epochs, EPOCHS * count, distance),
        f"{size} pixels, {EPOCHS} epochs, filling a file": row(four, peer_epochs, EPOCHS * count, distance),
        f"{size} pixels, an epoch from that file": row(cached, peer, count, distance),
        f"{size} pixels, an epoch without a cache": row(first, peer, count, distance),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows: dict[str, dict[str, Any]] = {}
    with TemporaryDirectory() as name:
        root = Path(name) / "photos"
        save_pictures(root, options.images)
        megabytes = sum(path.stat().st_size for path in root.rglob("*.jpg")) / options.images / 1e6
        for size in (64, 224):
            rows |= measure(root, options.images, size, options.rounds)
    columns = list(next(iter(rows.values())))
    report = {
        "command": shlex.join(["python", *sys.argv]),
        "data": f"{options.images} JPEG files of {WIDTH}x{HEIGHT}, {megabytes:.1f} MB each",
        "threads": 1,
        "tables": {
            "": {"corner": "files read", "columns": columns, "rows": {k: list(v.values()) for k, v in rows.items()}}
        },
        "environment": {
            "rounds": options.rounds,
            "pillow": PIL.__version__,
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
            "python": platform.python_version(),
            "machine": platform.machine(),
        },
    }
    text = json.dumps(report, indent=1, ensure_ascii=False) + "\n"
    print(text, end="")
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
