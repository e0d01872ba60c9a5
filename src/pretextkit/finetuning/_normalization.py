"""Statistics of a backbone that has seen no image, measured before it trains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pretextkit._color import as_float
from pretextkit._modules import module_device
from pretextkit.finetuning._work import FinetuneWork
from pretextkit.inference._classifier import Classifier
from pretextkit.training._sampler import sample_images, unmeasured_normalizations

__all__ = ["measure_normalizations"]

BATCH_NORM_IMAGES = 256
"""Images from which unused BatchNorm layers are measured."""


def measure_normalizations(work: FinetuneWork) -> None:
    """Measure the input normalizations and BatchNorm layers that will train and have seen no image.

    The features of a random backbone else change by orders of magnitude, as soon as it trains on batch statistics.
    """
    modules = [each for trained in work.trained for each in trained.modules()]
    for module in work.trained:
        module.train()
    normalizations = [each for module in work.trained for each in unmeasured_normalizations(module)]
    layers = [each for each in modules if isinstance(each, nn.modules.batchnorm._BatchNorm) and _is_unused(each)]
    if not normalizations and not layers:
        return
    images = sample_images(work.data.source, work.settings.seed)
    for normalization in normalizations:
        normalization.measure(images.to(normalization.mean.device))
    if layers:
        _measure_batch_norms(work.classifier, layers, images[:BATCH_NORM_IMAGES])


def _is_unused(layer: Any) -> bool:
    return layer.num_batches_tracked is not None and int(layer.num_batches_tracked) == 0


@torch.no_grad()
def _measure_batch_norms(classifier: Classifier, layers: Sequence[Any], images: Tensor) -> None:
    """Set running statistics to those of a batch; each layer sees the output of measured layers."""
    classifier.eval()
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.train()
        layer.momentum = 1.0
    classifier.features(as_float(images.to(module_device(classifier))))
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
        layer.num_batches_tracked.zero_()
