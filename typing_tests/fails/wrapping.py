"""Wrong uses of wrapped networks and token backbones. Every marked line is an error, and no other line."""

from __future__ import annotations

import torch
from torch import Generator, nn

import pretextkit as pk
from pretextkit.functional import run_step
from pretextkit.models import SmallCNN, wrap

network: nn.Module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
images = torch.rand(4, 3, 32, 32)

# A network is no backbone before it is wrapped.
pk.tasks.SimCLR(network)  # E
pk.tasks.Autoencoder(nn.Conv2d(3, 8, 3))  # E

# wrap takes a module and names of layers.
wrap("resnet18")  # E
wrap(nn.Conv2d)  # E
wrap(network, [0, 1])  # E
wrap(network, normalization=(0.5, 0.25))  # E

# A task that masks tokens takes a backbone of tokens, and a wrapped network may have none.
pk.tasks.MAE(SmallCNN())  # E
pk.tasks.MAE(wrap(network))  # E
wrap(network).tokens(images)  # E

# run_step takes a module.
run_step("rotation", images, Generator())  # E
run_step(pk.tasks.SimCLR, images, Generator())  # E

# A size has one number or two.
pk.data.FolderImages("photos", size="240x320")  # E
pk.data.FolderImages("photos", size=(240, 320, 3))  # E
