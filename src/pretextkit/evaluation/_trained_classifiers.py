"""Classifiers that probes and fine-tuning return: everything that predicting and saving need."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from pretextkit._modules import copied, module_device
from pretextkit._recipes import training_of
from pretextkit._starting_point import KEY, starting_point
from pretextkit.data._accepted_channels import with_accepted_channels
from pretextkit.data._image_format import ImageFormat
from pretextkit.data._sources import ImageSource
from pretextkit.evaluation._classes import Classes
from pretextkit.inference._classifier import OUTPUT, Classifier
from pretextkit.training._objectives import takes_images

__all__ = ["trained_classifier"]


class FunctionModule(nn.Module):
    """A function from images to features as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, images: Tensor) -> Tensor:
        return self.function(images)


def trained_classifier(
    backbone: nn.Module | Callable[[Tensor], Tensor],
    head: nn.Module,
    classes: Classes,
    train: Any,
    trained: Mapping[str, Any],
    *,
    layers: Sequence[tuple[str, int]] = OUTPUT,
) -> Classifier:
    """Make the classifier of copies of a backbone and a trained head: later training leaves it as it is.

    A function, and a module that cannot be copied, stay the caller's.

    Args:
        backbone: Module or function from images to features.
        head: Module from the features of ``layers`` to logits.
        classes: Classes of train.
        train: Source of the training images; anything else is taken for features.
        trained: How the head was trained, in plain data.
        layers: Layers whose features the head gets, each with the side of its grid.

    Example:
        >>> from pretextkit.evaluation._classes import find_classes
        >>> from pretextkit.models import LinearHead
        >>> classes = find_classes(torch.tensor([0, 1]), ("cat", "dog"))
        >>> trained_classifier(nn.Flatten(), LinearHead(192, 2), classes, None, {}).class_names
        ('cat', 'dog')
    """
    network = backbone if isinstance(backbone, nn.Module) else FunctionModule(backbone)
    notes = {"backbone": training_of(network), KEY: starting_point(backbone)}
    source = None
    if isinstance(train, ImageSource):  # gray images beside RGB images became RGB, if the network refuses them
        source = with_accepted_channels(train, lambda images: takes_images(network, images))
    return Classifier(
        copied(network),
        copied(head).to(module_device(backbone)),
        classes.present.to(module_device(backbone)),
        layers=layers,
        class_names=classes.shown_names,
        image_format=None if source is None else ImageFormat.of(source),
        trained={**trained, "classes": len(classes.present), **{name: each for name, each in notes.items() if each}},
    )
