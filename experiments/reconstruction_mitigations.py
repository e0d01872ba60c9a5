"""Why an autoencoder learns weak features of photographs: one change at a time.

    python experiments/reconstruction_mitigations.py --data data/cifar10.npz

Every pixel is the sum of its tile's mean and a residual. The squared error of an image is the sum of the errors of both
parts, and each part can be the only target. Every row is pretrained on the same images with the same budget, and every
stage is probed. Accuracies are measured on held-out training images, never on test images. ``--data`` takes any source
of ``pretextkit.data.load``. Repeat the command to resume.
"""

from __future__ import annotations

import argparse
from abc import abstractmethod
from pathlib import Path

from _report import write_report
from einops import rearrange, reduce
from torch import Generator, Tensor, nn

import pretextkit as pk
from pretextkit.batches import ImageToImage
from pretextkit.functional import compare
from pretextkit.tasks import Autoencoder, Denoising, GaussianNoise, HiddenPatches
from pretextkit.views import random_horizontal_flip, random_resized_crop

SIDE = 4
"""Tiles on each side of an image: as many as positions on each side of the last feature map."""

LEAST_CONTRAST = 0.03
"""Added to a tile's contrast in quadrature; otherwise noise in a plain sky would count as much as an object."""


def tiles(images: Tensor) -> Tensor:
    """Cut ``b c h w`` into ``b tiles c pixels``."""
    return rearrange(images, "b c (h p) (w q) -> b (h w) c (p q)", h=SIDE, w=SIDE)


class PartOfPixels(Autoencoder):
    """An autoencoder whose loss compares only one part of each image."""

    @abstractmethod
    def part(self, images: Tensor) -> Tensor:
        """Extract the part from ``b c h w``."""

    def forward(self, batch: ImageToImage) -> pk.TaskOutput:
        output, target = (self.part(images.float()) for images in (self.reconstruct(batch.input), batch.target))
        return pk.TaskOutput(nn.functional.mse_loss(output, target), {})


class TileMeans(PartOfPixels):
    """Compare the mean color of each tile."""

    def part(self, images: Tensor) -> Tensor:
        return tiles(images).mean(-1)


class Residuals(PartOfPixels):
    """Compare the differences from the mean color of each tile."""

    def part(self, images: Tensor) -> Tensor:
        return tiles(images) - tiles(images).mean(-1, keepdim=True)


class NormalizedResiduals(Residuals):
    """Compare residuals divided by the contrast of their tile, in the output and in the target.

    Masked autoencoders standardize their target patches in the same manner (He et al. 2022, arXiv 2111.06377).
    """

    def part(self, images: Tensor) -> Tensor:
        residuals = super().part(images)
        return residuals / (residuals.square().mean((2, 3), keepdim=True) + LEAST_CONTRAST**2).sqrt()


class Cropped(Autoencoder):
    """An autoencoder on random crops and flips."""

    def views(self, images: Tensor, generator: Generator) -> ImageToImage:
        images = random_resized_crop(images, scale=(0.3, 1.0), generator=generator)
        images = random_horizontal_flip(images, generator=generator)
        return ImageToImage(images, images)


ROWS = {
    "autoencoder": Autoencoder,
    "bottleneck: 16 channels": lambda backbone: Autoencoder(backbone, bottleneck=16),
    "bottleneck: 4 channels": lambda backbone: Autoencoder(backbone, bottleneck=4),
    "random crop and flip": Cropped,
    "noise added": lambda backbone: Denoising(backbone, corruption=GaussianNoise(0.2)),
    "tile means only": TileMeans,
    "residuals only": Residuals,
    "residuals, contrast-normalized": NormalizedResiduals,
    "half the pixels masked": lambda backbone: Denoising(backbone, corruption=HiddenPatches(0.5, 1)),
    "half the patches masked": Denoising,
    "three quarters masked, patches of 8": lambda backbone: Denoising(backbone, corruption=HiddenPatches(0.75, 8)),
}


def between_tile_variance(images: Tensor) -> float:
    """Return the fraction of the pixel variance, over all images, that lies between the tile means."""
    pixels = images.float() / 255
    pixels = pixels - reduce(pixels, "b c h w -> c 1 1", "mean")
    return (tiles(pixels).mean(-1).square().mean() / pixels.square().mean()).item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--images", type=int, default=8000, help="number of training images")
    parser.add_argument("--held-out", type=int, default=10_000, help="number of further training images, to measure on")
    parser.add_argument("--views", type=float, default=8.0, help="budget: views of each image")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--out", type=Path, default=Path("out/reconstruction-mitigations"))
    options = parser.parse_args()

    data = pk.data.load(options.data)
    print(data)
    train, held_out = slice(options.images), slice(options.images, options.images + options.held_out)
    result = compare(
        {name: ROWS[name] for name in options.rows},
        "small-cnn",
        (data.train_images[train], data.train_labels[train]),
        (data.train_images[held_out], data.train_labels[held_out]),
        views_per_image=options.views,
        batch_size=128,
        seeds=options.seeds,
        label_fractions=(),
        save=options.out,
    )
    print(f"\n{result}")
    stages = [name for name in result.runs[0].layers if name.endswith("2x2")]
    rows: dict[str, list[list[float]]] = {}
    for run in result.runs:
        found = rows.setdefault(run.method, [[] for _ in (*stages, "chosen")])
        accuracies = (*(run.layers[stage].accuracy for stage in stages), run.linear)
        for column, accuracy in zip(found, accuracies, strict=True):
            column.append(accuracy)
    between = between_tile_variance(data.train_images[train])
    write_report(
        options.out / "reconstruction-mitigations.json",
        data,
        seeds=options.seeds,
        tables={
            "Linear probe, 2x2": {"columns": [*stages, "chosen stage"], "rows": rows},
            "Variance of pixels": {
                "columns": ["fraction"],
                "rows": {"tile means": [between], "residuals": [1 - between]},
            },
        },
        comparison=result.to_dict(),
    )


if __name__ == "__main__":
    main()
