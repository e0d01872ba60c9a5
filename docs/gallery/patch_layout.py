"""
The grid of patches
===================

Relative patch location compares the center patch with one of its eight neighbors. Check that a patch is large enough to
show what it is; the gaps and the jitter keep a network from matching edges.

The photos are those of the `repository <https://github.com/pretextkit/pretextkit/tree/main/docs/figures/photos>`_.
"""

import pretextkit as pk
from pretextkit import plots

# docs/figures/photos of the repository; any folder of photos does
photos = pk.data.load("../figures/photos").train_images
plots.patch_layout(photos, count=3)
