"""
Filled holes
============

A context encoder fills a hole from its surroundings. Titles give the error in decibels, where more is better, of the
filled hole and, above, of a hole in the mean color. This network was trained for seconds, on the photos that it fills:
it finds rough colors, and no content.

The photos are those of the `repository <https://github.com/pretextkit/pretextkit/tree/main/docs/figures/photos>`_.
"""

import torch

import pretextkit as pk
from pretextkit import plots
from pretextkit.functional import pretrain

# docs/figures/photos of the repository; any folder of photos does
photos = pk.data.load("../figures/photos", size=32).train_images
torch.manual_seed(0)
task = pk.tasks.ContextEncoder(pk.models.SmallCNN())
pretrain(task, photos, steps=80, batch_size=6, progress=False)

batch = task.views(photos / 255, torch.Generator().manual_seed(0))
with torch.no_grad():
    filled = task.eval().fill(batch.visible, batch.mask)
plots.inpainting(batch, filled)
