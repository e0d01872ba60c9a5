"""
Loss and metrics of a training
==============================

Each axis names the better direction, and the dashed line is the accuracy of random guesses: one of four angles. Spread
and RankMe warn of collapsed features. The network sees 96 images for five epochs, so the lines are short and noisy.
"""

import torch

import pretextkit as pk
from pretextkit import plots
from pretextkit.functional import pretrain

data = pk.data.load("sample")
torch.manual_seed(0)
task = pk.tasks.Rotation(pk.models.SmallCNN(in_channels=1))
result = pretrain(task, data.train_images[:96], epochs=5, batch_size=16, progress=False)
plots.training_curves(result.history)
