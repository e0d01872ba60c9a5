"""Draw the figures of the documentation: ``python scripts/figures.py [tasks] [readme]``, both by default.

``tasks`` draws docs/figures/task-*.png, the views of each pretext task, from docs/figures/photos; ``readme`` draws the
strip of views at the top of README.md. The gallery is drawn when the documentation is built, from docs/gallery.

``python scripts/figures.py colorization --data data/cifar10.npz`` trains colorization for some minutes and draws
colorized test images; the embedded sample has no colors.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from einops import rearrange
from PIL import Image
from torch import Generator, Tensor
from torch.nn import functional
from torchvision.transforms.functional import pil_to_tensor

import pretextkit as pk
from pretextkit.functional import pretrain
from pretextkit.plots import views
from pretextkit.plots._figures import grid_of_tiles
from pretextkit.testing import TinyBackbone, TinyTokenBackbone

FIGURES = Path(__file__).parents[1] / "docs" / "figures"


def photos() -> Tensor:
    """Read the free photos of the documentation, ``8 3 96 96``."""
    return (
        torch.stack([pil_to_tensor(Image.open(path)) for path in sorted((FIGURES / "photos").glob("*.jpg"))]).float()
        / 255
    )


def draw_tasks() -> None:
    images = photos()
    for name, cls in pk.pretext_tasks.items():
        if not cls.__module__.startswith("pretextkit."):  # of an installed plug-in
            continue
        if name == "colorization":  # drawn after training
            continue
        backbone = TinyTokenBackbone() if name == "mae" else TinyBackbone()  # views do not depend on its weights
        task = pk.pretext_tasks.create(
            name, backbone, **({"teacher": TinyBackbone()} if name == "distillation" else {})
        )
        figure = views(task.views(images, Generator().manual_seed(0)), label_names=task.label_names)
        figure.savefig(FIGURES / f"task-{name}.png", dpi=80, metadata={"Software": None})


class Strip(NamedTuple):
    """Rows of the figure of README.md."""

    photos: Tensor
    rotation: Tensor
    jigsaw: Tensor
    simclr: Tensor
    colorization: Tensor
    inpainting: Tensor


def draw_readme() -> None:
    """Draw one row of views for each of five tasks."""
    images, draws = photos()[[0, 4, 2, 6, 1, 7, 5, 3]], Generator().manual_seed(1)
    backbone, tasks = TinyBackbone(), pk.tasks
    rotated = rearrange(tasks.Rotation(backbone).views(images, draws).images, "(r b) c h w -> r b c h w", r=4)
    tiles = tasks.Jigsaw(backbone).views(images, draws).tiles
    strip = Strip(
        photos=images,
        rotation=torch.stack([rotated[(place + 1) % 4, place] for place in range(len(images))]),
        jigsaw=functional.interpolate(grid_of_tiles(list(tiles)), size=96),
        simclr=functional.interpolate(tasks.SimCLR(backbone).views(images, draws).a, size=96),
        colorization=tasks.Colorization(backbone).views(images, draws).input.expand(-1, 3, -1, -1),
        inpainting=tasks.ContextEncoder(backbone).views(images, draws).visible,
    )
    views(strip).savefig(FIGURES / "readme-views.png", dpi=80, metadata={"Software": None})


class Colored(NamedTuple):
    """Rows of the figure."""

    gray: Tensor
    colorized: Tensor
    true: Tensor


def draw_colorization(source: str) -> None:
    images = pk.data.load(source)
    torch.manual_seed(0)
    backbone = pk.models.SmallCNN()
    backbone.normalization.measure(images.train_images)
    task = pk.tasks.Colorization(backbone)
    print(pretrain(task, images.train_images, epochs=5, batch_size=128, device="cpu"))
    true = images.test_images[:10].float() / 255
    with torch.no_grad():
        shown = Colored(task.views(true, Generator()).input, task.eval().colorize(true), true)
    figure = views(shown, count=len(true))
    figure.savefig(FIGURES / "task-colorization.png", dpi=80, metadata={"Software": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("figures", nargs="*", default=["tasks", "readme"], metavar="tasks|readme|colorization")
    parser.add_argument("--data", default="cifar10", help="color images: any source of pretextkit.data.load")
    options = parser.parse_args()
    FIGURES.mkdir(parents=True, exist_ok=True)
    drawn: dict[str, Callable[[], None]] = {
        "tasks": draw_tasks,
        "readme": draw_readme,
        "colorization": lambda: draw_colorization(options.data),
    }
    if unknown := set(options.figures) - set(drawn):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; choose from {', '.join(drawn)}")
    for name in options.figures:
        drawn[name]()


if __name__ == "__main__":
    main()
