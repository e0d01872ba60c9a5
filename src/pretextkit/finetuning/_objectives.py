"""Objectives of fine-tuning: a classifier on images, and a head on features."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Generator, Tensor, nn

from pretextkit._modules import as_input, module_dtype
from pretextkit._validation import check_tensor
from pretextkit.contracts import TaskOutput
from pretextkit.errors import DataError, ShapeError
from pretextkit.inference._classifier import only_classes
from pretextkit.training._hardware import Precision, resolve_precision
from pretextkit.training._objectives import Objective, warn_of_range
from pretextkit.training._optim import parameter_groups
from pretextkit.views import Augmentation
from pretextkit.views._augmentation import augmented

__all__ = ["ClassifierObjective", "HeadObjective", "classification_loss"]

CONFIDENT_ERROR = 4.0
"""Loss in units of that of a guess, up to which the loss may rise from a solution whose features begin to change."""


class ClassifierObjective(Objective):
    """A classifier whose head trains, with some modules of its backbone.

    Args:
        classifier: Module with a ``backbone`` and a ``head``.
        trained: Modules of the backbone that train.
        augment: Augmentation of the images, if any.
        classes: Labels with training images, in ascending order; no other class is predicted.
        layer_decay: Factor on the learning rate for each layer further from the head.
        class_weights: Weight of each class in the loss; equal weights by default.
        label_smoothing: Part of each target that is spread over all classes.
    """

    def __init__(
        self,
        classifier: nn.Module,
        trained: Sequence[nn.Module],
        augment: Augmentation | None,
        classes: Tensor,
        layer_decay: float,
        class_weights: Tensor | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        self.module: Any = classifier
        self.class_weights, self.label_smoothing = class_weights, label_smoothing
        self.trained, self.augment, self.classes, self.layer_decay = trained, augment, classes, layer_decay
        self.checked = False
        self.usual_loss = CONFIDENT_ERROR * math.log(len(classes))
        self.chance_accuracy = 1 / len(classes)
        backbone: nn.Module = classifier.get_submodule("backbone")
        for weight in backbone.parameters():  # TorchScript has no requires_grad_ of modules
            weight.requires_grad_(False)
        for module in trained:
            for weight in module.parameters():
                weight.requires_grad_(True)

    def parameter_groups(self) -> list[dict[str, Any]]:
        groups = parameter_groups(self.module.head)
        for depth, layer in enumerate(reversed(_layers(self.module.backbone)), 1):
            scale = self.layer_decay**depth
            groups += [{**group, "scale": scale} for group in parameter_groups(layer)]
        return groups

    def train_mode(self) -> None:
        self.module.eval()
        self.module.head.train()
        for module in self.trained:
            module.train()

    def precision(self, precision: Precision, device: torch.device) -> str:
        """Resolve the precision; a backbone and a head of two dtypes run without autocast, each in its own."""
        parts = {module_dtype(part) for part in (self.module.backbone, self.module.head)}
        if len(parts) == 1:
            return resolve_precision(precision, device, *parts)
        return resolve_precision("fp32" if precision == "auto" else precision, device)

    def prepare_batch(self, images: Tensor, labels: Tensor | None, generator: Generator) -> Any:
        assert labels is not None
        if self.augment is not None:
            images = augmented(self.augment, images, generator)
            if not self.checked:
                self.checked = True
                warn_of_range(images)
        return images, labels

    def loss(self, batch: Any) -> TaskOutput:
        images, labels = batch
        return classification_loss(self.module(images), labels, self.classes, self.class_weights, self.label_smoothing)

    def head_loss(self, features: Tensor, labels: Tensor) -> TaskOutput:
        """Compute the loss of the features that the head gets."""
        return classification_loss(
            self.module.head(features), labels, self.classes, self.class_weights, self.label_smoothing
        )


class HeadObjective(Objective):
    """A head on precomputed features.

    Args:
        head: From features ``b d`` to logits ``b k``.
        classes: Labels with training images, in ascending order; no other class is predicted.
        class_weights: Weight of each class in the loss; equal weights by default.
        label_smoothing: Part of each target that is spread over all classes.
    """

    def __init__(
        self, head: nn.Module, classes: Tensor, class_weights: Tensor | None = None, label_smoothing: float = 0.0
    ) -> None:
        self.module, self.classes = head, classes
        self.class_weights, self.label_smoothing = class_weights, label_smoothing
        self.usual_loss = CONFIDENT_ERROR * math.log(len(classes))
        self.chance_accuracy = 1 / len(classes)

    def parameter_groups(self) -> list[dict[str, Any]]:
        return parameter_groups(self.module)

    def prepare_batch(self, images: Tensor, labels: Tensor | None, generator: Generator) -> Any:
        return images, labels

    def loss(self, batch: Any) -> TaskOutput:
        features, labels = batch
        features = as_input(features, self.module)
        return classification_loss(
            self.module(features), labels, self.classes, self.class_weights, self.label_smoothing
        )


def classification_loss(
    outputs: Tensor, labels: Tensor, classes: Tensor, class_weights: Tensor | None, label_smoothing: float
) -> TaskOutput:
    """Compute the loss and the accuracy of logits ``b k``.

    Raises:
        ShapeError: The outputs are no logits ``b k``.
        DataError: There are fewer outputs than classes.
    """
    logits = check_tensor(outputs, "logits b k from the head", "Return one tensor from its forward.").float()
    if logits.ndim != 2 or len(logits) != len(labels):
        raise ShapeError(
            f"logits b k of {len(labels)} images from the head",
            got=f"shape {tuple(logits.shape)}",
            fix="Let the head return one row of logits for each row of features.",
        )
    count = int(classes[-1]) + 1
    if logits.shape[1] < count:
        raise DataError(
            f"at most {logits.shape[1]} classes, because the head has {logits.shape[1]} outputs",
            got=f"{count} classes",
            fix="Give the head one output for each class.",
        )
    logits = only_classes(logits, classes)
    losses = nn.functional.cross_entropy(logits, labels, reduction="none")
    if label_smoothing:
        spread = -logits.log_softmax(1)[:, classes.to(logits.device)].mean(1)
        losses = (1 - label_smoothing) * losses + label_smoothing * spread
    if class_weights is not None:
        # The mean is over images, equal for any division of the batch; torch divides by the weights of the batch.
        losses = losses * class_weights.to(losses.device)[labels]
    loss = losses.mean()
    return TaskOutput(loss, {"accuracy": (logits.detach().argmax(1) == labels).float().mean()})


def _layers(backbone: nn.Module) -> list[nn.Module]:
    """List the layers of a backbone from input to output: the children of the first module that branches."""
    children = [child for child in backbone.children() if next(child.parameters(), None) is not None]
    direct = next(backbone.parameters(recurse=False), None) is not None
    if direct or not children:
        return [backbone]
    return _layers(children[0]) if len(children) == 1 else children
