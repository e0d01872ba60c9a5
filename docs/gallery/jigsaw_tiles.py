"""
A jigsaw puzzle and its solution
================================

The numbers give the position of each tile in the image. If you cannot solve the puzzle, neither can the network. The
tiles do not fit seamlessly: gaps, random offsets and a contrast for each tile keep a network from matching edges.
"""

import torch

import pretextkit as pk
from pretextkit import plots

photos = pk.data.load("../figures/photos").train_images / 255
task = pk.tasks.Jigsaw(pk.models.SmallCNN())
plots.jigsaw_tiles(task.views(photos, torch.Generator().manual_seed(1)), task.orders, count=4)
