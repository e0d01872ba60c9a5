"""
Scores of normal and anomalous images
=====================================

The less the two distributions overlap, the better. The line is a threshold that a twentieth of the normal images
exceed. The autoencoder of boots was trained for seconds.
"""

import torch

import pretextkit as pk
from pretextkit import plots
from pretextkit.functional import pretrain, reconstruction_anomaly_score

data = pk.data.load("sample")
boots = data.train_images[data.train_labels == 9][:160]
torch.manual_seed(0)
backbone = pk.models.SmallCNN(in_channels=1)
task = pk.tasks.Autoencoder(backbone, bottleneck=8, augmentation=None)
pretrain(task, boots, epochs=4, batch_size=16, progress=False)

is_boot = data.test_labels == 9
parts = data.test_images[is_boot][:150], data.test_images[~is_boot][:150]
scored = (reconstruction_anomaly_score(task.reconstruct, part) for part in parts)
normal, anomalous = (each.scores for each in scored)
plots.score_histogram(normal, anomalous, threshold=float(normal.quantile(0.95)))
