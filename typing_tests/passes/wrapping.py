"""Networks of other libraries become backbones of known types; tasks that mask tokens take token backbones."""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator, Tensor, nn
from typing_extensions import assert_type

import pretextkit as pk
from pretextkit.functional import pretrain, run_step
from pretextkit.models import TimmTokens, ViTTiny, wrap

network: nn.Module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
images = torch.rand(4, 3, 32, 32)

backbone = wrap(network)
assert_type(backbone, pk.SpatialBackbone)
assert_type(wrap(network, ["0", "1"], normalization=((0.5,), (0.25,)), size=32), pk.SpatialBackbone)
assert_type(backbone.stages(images), tuple[Tensor, ...])
assert_type(backbone.starts_from, str)
assert_type(pk.tasks.Autoencoder(backbone).reconstruct(images), Tensor)

# Names of libraries give classes of backbones that take any options.
named: pk.Backbone = pk.backbones["timm/convnext_atto"](weights=None, in_channels=1)
created: pk.Backbone = pk.backbones.create("torchvision/resnet50", weights="DEFAULT")
task = pk.tasks.SimCLR(named)
assert_type(run_step(task, images, Generator()), pk.TaskOutput)
assert_type(run_step(nn.DataParallel(task), images, Generator()).loss, Tensor)
assert_type(pretrain(task, images, size=64).settings.starts_from, str | None)

# Tokens of a transformer.
tokens: pk.TokenBackbone = ViTTiny()
assert_type(pk.backbones["vit-tiny"](patch=8), ViTTiny)
assert_type(tokens.encode(tokens.tokens(images)[:, ::4]), Tensor)
assert_type(pk.tasks.MAE(ViTTiny()).backbone, ViTTiny)


def mask_tokens(wrapped: pk.SpatialBackbone) -> pk.PretextTask[pk.Masked, Any] | None:
    return pk.tasks.MAE(wrapped) if isinstance(wrapped, pk.TokenBackbone) else None


def of_timm(network: nn.Module) -> pk.TokenBackbone:
    return TimmTokens(network)


# Sizes are a side, or height and width.
pk.data.FolderImages("photos", size=64)
pk.data.FolderImages("photos", size=(240, 320))
