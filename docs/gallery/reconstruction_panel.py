"""
Reconstructions of anomalies
============================

An autoencoder of boots reconstructs boots; anomalies are the images on which it fails. An error on every edge indicates
a model that is too weak, as here after seconds of training; no error anywhere, a model that copies its input.
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

shown = data.test_images[:40]
scored = reconstruction_anomaly_score(task.reconstruct, shown)
with torch.no_grad():
    reconstructed = task.eval().reconstruct(shown / 255)
plots.reconstruction_panel(shown, reconstructed, scored.maps, scored.scores, count=4)
