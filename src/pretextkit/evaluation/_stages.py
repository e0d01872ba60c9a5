"""Modules of the stages of a backbone."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pretextkit._evaluation_mode import evaluation_mode
from pretextkit._modules import module_device
from pretextkit.contracts import SpatialBackbone

__all__ = ["stage_modules"]


def stage_modules(backbone: SpatialBackbone, images: Tensor) -> dict[str, list[nn.Module]]:
    """Find the modules that compute each stage of a backbone.

    A weight belongs to the first stage whose map depends on it; the stem belongs to the first stage. Modules whose
    weights all belong to one stage are named once, at the highest level.

    Args:
        backbone: Backbone with stages.
        images: Float images ``b c h w``; one is enough.

    Returns:
        Name of each stage to its modules, in the order of the backbone.

    Example:
        >>> from pretextkit.models import ResNet18
        >>> backbone = ResNet18()
        >>> stage_modules(backbone, torch.rand(1, 3, 32, 32))["stage4"] == [backbone.trunk.layer4]
        True
    """
    trainable = [(weight, weight.requires_grad) for weight in backbone.parameters()]
    weights = [weight for weight, _ in trainable if weight.is_floating_point()]
    owned: set[int] = set()
    found: dict[str, list[nn.Module]] = {}
    try:
        for weight in weights:
            weight.requires_grad_(True)
        with evaluation_mode(backbone), torch.enable_grad():
            for number, stage in enumerate(backbone.stages(images[:1].to(module_device(backbone))), 1):
                gradients = torch.autograd.grad(stage.sum(), weights, allow_unused=True, retain_graph=True)
                reached = {id(w) for w, gradient in zip(weights, gradients, strict=True) if gradient is not None}
                found[f"stage{number}"] = _highest(backbone, reached - owned)
                owned |= reached
    finally:
        for weight, requires_grad in trainable:
            weight.requires_grad_(requires_grad)
    return found


def _highest(module: nn.Module, weights: set[int]) -> list[nn.Module]:
    """List the highest modules all of whose weights are in ``weights``, and those that own one of them directly."""
    own = {id(weight) for weight in module.parameters()}
    if not own & weights:
        return []
    if own <= weights or any(id(weight) in weights for weight in module.parameters(recurse=False)):
        return [module]
    return [found for child in module.children() for found in _highest(child, weights)]
