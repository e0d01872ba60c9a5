"""Measuring the input normalization of what is going to train."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pretextkit._seeding import derived_generator, derived_seed
from pretextkit.contracts import InputNormalization
from pretextkit.data._sources import ImageSource

__all__ = ["sample_images", "unmeasured_normalizations"]

MEASURED_IMAGES = 4096
"""Images from which a normalization is set."""


def unmeasured_normalizations(module: nn.Module) -> list[InputNormalization]:
    """List the input normalizations in training mode that nothing has been measured for yet."""
    return [m for m in module.modules() if isinstance(m, InputNormalization) and m.training and not m.measured]


def sample_images(source: ImageSource, seed: int) -> Tensor:
    """Read the images from which input normalizations are measured."""
    order = torch.randperm(len(source), generator=derived_generator(seed, "normalization"))[:MEASURED_IMAGES]
    with torch.random.fork_rng(devices=[]):  # a loader draws from the global generator
        torch.default_generator.manual_seed(derived_seed(seed, "normalization"))
        return torch.cat([batch.images for batch in source.batches(torch.split(order, 256))])
