"""
The views of a task
===================

Look at the views before you train: most mistakes in a pretext task are visible. Here the two crops that SimCLR
compares. Other types of batches have other rows: one for each angle of rotation, or for each of the many views of DINO.

The photos are those of the `repository <https://github.com/pretextkit/pretextkit/tree/main/docs/figures/photos>`_.
"""

import torch

import pretextkit as pk
from pretextkit import plots

# docs/figures/photos of the repository; any folder of photos does
photos = pk.data.load("../figures/photos").train_images / 255
task = pk.tasks.SimCLR(pk.models.SmallCNN())
plots.views(task.views(photos, torch.Generator().manual_seed(0)))
