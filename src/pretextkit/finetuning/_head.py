"""Head of a fine-tuning: built by name, and set to the solution of the linear probe."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pretextkit._color import as_float
from pretextkit._evaluation_mode import evaluation_mode
from pretextkit._modules import module_device
from pretextkit._seeding import derived_seed, seeded
from pretextkit.data._sources import ImageSource
from pretextkit.errors import OptionError
from pretextkit.evaluation._layer_names import Part
from pretextkit.finetuning._data import FinetuneData
from pretextkit.inference._classifier import Classifier
from pretextkit.models.heads import LinearHead
from pretextkit.registries import heads

__all__ = ["build_head", "find_linear_layer", "set_weights"]


def build_head(
    head: nn.Module | str, backbone: nn.Module, parts: Sequence[Part], data: FinetuneData, seed: int
) -> nn.Module:
    """Build a registered head for the features of some layers and the classes of train; keep a module.

    Raises:
        UnknownNameError: There is no head of that name, or no layer.
        OptionError: The head of that name is not built from two widths.
    """
    if not isinstance(head, str):
        return head
    make = heads[head]
    width = _feature_width(backbone, parts, data.source, seed)
    with seeded(derived_seed(seed, "head")):
        try:
            return make(width, data.classes.count)
        except TypeError as error:
            raise OptionError(
                "the name of a head that is built from the widths of its input and output",
                got=repr(head),
                fix="Use 'linear' or 'mlp', or build the head yourself and pass the module.",
            ) from error


def find_linear_layer(head: nn.Module) -> nn.Linear | None:
    """Return the layer of a head that is one trainable linear layer with a bias; None for other heads.

    Example:
        >>> find_linear_layer(nn.Sequential(nn.Dropout(), nn.Linear(2, 2))) is None
        True
    """
    layer = head.linear if type(head) is LinearHead else head
    if type(layer) is not nn.Linear or layer.bias is None:  # a parametrized layer has a type of its own
        return None
    return layer if all(weight.requires_grad for weight in layer.parameters()) else None


def set_weights(layer: nn.Linear, solution: LinearHead, present: Tensor) -> None:
    """Copy the weights of the classes with images; other outputs stay as they are."""
    with torch.no_grad():
        for own, found in ((layer.weight, solution.linear.weight), (layer.bias, solution.linear.bias)):
            own[present.to(own.device)] = found[present].to(own)


def _feature_width(backbone: nn.Module, parts: Sequence[Part], source: ImageSource, seed: int) -> int:
    with seeded(derived_seed(seed, "try")):  # a loader draws from the global generator
        images = next(iter(source.batches([torch.tensor([0])]))).images
    with evaluation_mode(backbone):
        images = as_float(images.to(module_device(backbone)))
        return Classifier(backbone, nn.Identity(), layers=parts).features(images).shape[1]
