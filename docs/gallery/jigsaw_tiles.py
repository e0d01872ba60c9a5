"""
A jigsaw puzzle and its solution
================================

The numbers give the position of each tile in the image. If you cannot solve the puzzle, neither can the network. The
tiles do not fit seamlessly, because gaps and offsets keep a network from matching edges. Here they are large and keep
their colors; by default the task also crops and recolors images, and drops color channels of tiles.

The photos are those of the `repository <https://github.com/pretextkit/pretextkit/tree/main/docs/figures/photos>`_.
"""

import torch

import pretextkit as pk
from pretextkit import plots
from pretextkit.tasks import PatchLayout

# docs/figures/photos of the repository; any folder of photos does
photos = pk.data.load("../figures/photos").train_images[[1, 0, 2]] / 255
task = pk.tasks.Jigsaw(
    pk.models.SmallCNN(),
    augmentation=None,
    color_drop=0,
    layout=PatchLayout(patch=26, gap=4, jitter=2),
)
plots.jigsaw_tiles(task.views(photos, torch.Generator().manual_seed(1)), task.orders)
