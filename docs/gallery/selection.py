"""
Images to label first
=====================

The chosen images in their order, and where they lie among all. The network is untrained; a pretrained one chooses
better.
"""

import torch

import pretextkit as pk
from pretextkit import plots
from pretextkit.functional import extract_features, select_to_label

images = pk.data.load("sample").train_images[:500]
torch.manual_seed(0)
backbone = pk.models.SmallCNN(in_channels=1)
backbone.normalization.measure(images)
features = extract_features(backbone, images, layers=["stage3"]).layers["stage3"]
plots.selection(select_to_label(features, 20), images, features)
