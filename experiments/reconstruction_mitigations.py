"""Why an autoencoder teaches little about photographs: one thing changed at a time.

    python experiments/reconstruction_mitigations.py --data data/cifar10.npz

Every pixel is the sum of its tile's mean and the difference from it. An image's squared error is the sum of the
errors of both parts, so that each can be trained on alone. Every row is pretrained on the same images for equally many
views and probed stage by stage; accuracies are on images of train that nothing else sees, and none on test images.
``--data`` takes anything that ``pretextkit.data.load`` takes. Repeat the command to go on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from abc import abstractmethod
from pathlib import Path

from einops import rearrange, reduce
from torch import Generator, Tensor, nn

import pretextkit as pk
from pretextkit.batches import ImageToImage
from pretextkit.functional import compare
from pretextkit.tasks import Autoencoder, Denoising, GaussianNoise, HiddenPatches
from pretextkit.views import random_horizontal_flip, random_resized_crop

SIDE = 4
"""Tiles on each side of an image: as many as places of the last map, from which all is drawn."""

LEAST_CONTRAST = 0.03
"""Added to a tile's contrast, in quadrature: grain in a plain sky would count as much as anything else."""


def tiles(images: Tensor) -> Tensor:
    """Cut ``b c h w`` into ``b tiles c pixels``."""
    return rearrange(images, "b c (h p) (w q) -> b (h w) c (p q)", h=SIDE, w=SIDE)


class PartOfPixels(Autoencoder):
    """Only a part of what makes up an image counts."""

    @abstractmethod
    def part(self, images: Tensor) -> Tensor:
        """Take it from ``b c h w``."""

    def forward(self, batch: ImageToImage) -> pk.TaskOutput:
        drawn, image = (self.part(each.float()) for each in (self.reconstruct(batch.input), batch.target))
        return pk.TaskOutput(nn.functional.mse_loss(drawn, image), {})


class Means(PartOfPixels):
    """The mean color of each tile."""

    def part(self, images: Tensor) -> Tensor:
        return tiles(images).mean(-1)


class Differences(PartOfPixels):
    """What differs from the mean color of its tile."""

    def part(self, images: Tensor) -> Tensor:
        return tiles(images) - tiles(images).mean(-1, keepdim=True)


class OneContrast(Differences):
    """The same, divided by the contrast of its tile, in the drawing as in the image.

    Masked autoencoders standardize the tiles that they are to draw (He et al. 2022, arXiv 2111.06377).
    """

    def part(self, images: Tensor) -> Tensor:
        differences = super().part(images)
        return differences / (differences.square().mean((2, 3), keepdim=True) + LEAST_CONTRAST**2).sqrt()


class Cropped(Autoencoder):
    """Images are cropped and mirrored, other ones each time."""

    def views(self, images: Tensor, generator: Generator) -> ImageToImage:
        images = random_resized_crop(images, scale=(0.3, 1.0), generator=generator)
        images = random_horizontal_flip(images, generator=generator)
        return ImageToImage(images, images)


ROWS = {
    "autoencoder": Autoencoder,
    "narrow: 16 channels": lambda backbone: Autoencoder(backbone, bottleneck=16),
    "narrow: 4 channels": lambda backbone: Autoencoder(backbone, bottleneck=4),
    "cropped and mirrored": Cropped,
    "noise added": lambda backbone: Denoising(backbone, corruption=GaussianNoise(0.2)),
    "tiles' means only": Means,
    "differences from them only": Differences,
    "differences, of one contrast": OneContrast,
    "half the pixels hidden": lambda backbone: Denoising(backbone, corruption=HiddenPatches(0.5, 1)),
    "half the patches hidden": Denoising,
    "three quarters hidden, patches of 8": lambda backbone: Denoising(backbone, corruption=HiddenPatches(0.75, 8)),
}


def variance_between(images: Tensor) -> float:
    """Tell which share of the pixels' variance is between tiles, as their means, over all images."""
    pixels = images.float() / 255
    pixels = pixels - reduce(pixels, "b c h w -> c 1 1", "mean")
    return (tiles(pixels).mean(-1).square().mean() / pixels.square().mean()).item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--images", type=int, default=8000, help="training images")
    parser.add_argument("--held-out", type=int, default=10_000, help="more of them, to measure on")
    parser.add_argument("--views", type=float, default=8.0, help="views of each image, the budget")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--out", type=Path, default=Path("out/reconstruction-mitigations"))
    options = parser.parse_args()

    data = pk.data.load(options.data)
    print(data)
    train, held = slice(options.images), slice(options.images, options.images + options.held_out)
    result = compare(
        {name: ROWS[name] for name in options.rows},
        "small-cnn",
        (data.train_images[train], data.train_labels[train]),
        (data.train_images[held], data.train_labels[held]),
        views_per_image=options.views,
        batch_size=128,
        seeds=options.seeds,
        label_fractions=(),
        pool=[2],
        save=options.out,
    )
    print(f"\n{result}")
    stages = list(result.runs[0].layers)
    rows: dict[str, list[list[float]]] = {}
    for run in result.runs:
        found = rows.setdefault(run.method, [[] for _ in (*stages, "chosen")])
        for column, share in zip(found, (*(run.layers[stage].accuracy for stage in stages), run.linear), strict=True):
            column.append(share)
    between = variance_between(data.train_images[train])
    report = {
        "command": shlex.join(["python", *sys.argv]),
        "data": str(data),
        "seeds": options.seeds,
        "tables": {
            "Linear probe, 2x2": {"columns": [*stages, "chosen stage"], "rows": rows},
            "Variance of pixels": {
                "columns": ["share"],
                "rows": {"tiles' means": [between], "differences from them": [1 - between]},
            },
        },
        "comparison": result.to_dict(),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "reconstruction-mitigations.json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
