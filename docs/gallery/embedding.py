"""
Features in the plane
=====================

Features on their first two principal components, with a color and a marker for each class. For t-SNE or UMAP, pass
their two columns in place of the features. The network has learned rotations for seconds.
"""

import torch

import pretextkit as pk
from pretextkit import plots
from pretextkit.functional import extract_features, pretrain

data = pk.data.load("sample")
torch.manual_seed(0)
task = pk.tasks.Rotation(pk.models.SmallCNN(in_channels=1))
pretrain(task, data.train_images[:128], epochs=2, batch_size=16, progress=False)
images, labels = data.test_images[:400], data.test_labels[:400]
features = extract_features(task.backbone, images, layers=["stage3"]).layers["stage3"]
plots.embedding(features, labels, data.class_names, title="Rotation, stage 3")
