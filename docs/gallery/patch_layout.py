"""
The grid of patches
===================

Relative patch location compares the center patch with one of its eight neighbors. Check that a patch is large enough to
show what it is; the gaps and the jitter keep a network from matching edges.
"""

import pretextkit as pk
from pretextkit import plots

plots.patch_layout(pk.data.load("../figures/photos").train_images, count=3)
