"""
Confused classes
================

Each row is a true class and sums to 100 %. The classifier is kNN on the features of an untrained network, the baseline
that a pretext task must pass.
"""

import torch

import pretextkit as pk
from pretextkit import plots
from pretextkit.functional import knn_probe

data = pk.data.load("sample")
torch.manual_seed(0)
backbone = pk.models.SmallCNN(in_channels=1)
backbone.normalization.measure(data.train_images)
train = data.train_images[:1000], data.train_labels[:1000]
test = data.test_images[:500], data.test_labels[:500]
probed = knn_probe(backbone, train, test)
answers = probed.targets, probed.predictions
plots.confusion_matrix(*answers, data.class_names, title=f"kNN, {probed.accuracy:.1%}")
