"""
Nearest neighbors
=================

Test images beside the training images most like them. Frames are solid for neighbors of the same class and dashed for
others. The network has learned rotations for seconds.
"""

import torch

import pretextkit as pk
from pretextkit import plots
from pretextkit.functional import extract_features, pretrain

data = pk.data.load("sample")
queries, known = data.test_images[:4], data.train_images[:500]
torch.manual_seed(0)
task = pk.tasks.Rotation(pk.models.SmallCNN(in_channels=1))
pretrain(task, known[:128], epochs=2, batch_size=16, progress=False)
found = extract_features(task.backbone, queries, layers=["stage3"]).layers["stage3"]
among = extract_features(task.backbone, known, layers=["stage3"]).layers["stage3"]
plots.nearest_neighbors(
    queries,
    known,
    found,
    among,
    query_labels=data.test_labels[:4],
    database_labels=data.train_labels[:500],
    class_names=data.class_names,
)
