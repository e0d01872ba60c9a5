"""
Predicted masks
===============

Masks beside the true ones, with a column for each network. The classes are ground and ink, which a linear layer on an
untrained network finds but for fine lines.
"""

import torch

import pretextkit as pk
from pretextkit import plots
from pretextkit.functional import segmentation_probe

data = pk.data.load("sample")
train, test = data.train_images[:100], data.test_images[:3]
masks = [(images[:, 0] > 127).long() for images in (train, test)]
torch.manual_seed(0)
backbone = pk.models.SmallCNN(in_channels=1)
backbone.normalization.measure(train)
known, asked = (train, masks[0]), (test, masks[1])
probed = segmentation_probe(backbone, known, asked, layers=["stage1"], steps=100)
predicted = {"random init": probed.predictions}
plots.segmentation(*asked, predicted, ["ground", "ink"])
