"""Objectives of the training loop: what trains, how a batch is prepared, and its loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from torch import Generator, Tensor, nn

from pretextkit.contracts import PretextTask, TaskOutput
from pretextkit.errors import DataError
from pretextkit.training._collapse import batch_norm_warmed_up, detect_collapse, feature_quality
from pretextkit.training._monitors import Finding
from pretextkit.training._optim import parameter_groups

__all__ = ["Augmentation", "ClassifierObjective", "HeadObjective", "Objective", "TaskObjective"]

Augmentation = Callable[[Tensor, Generator], Tensor]
"""From images ``b c h w`` and a generator to augmented images."""


class Objective(ABC):
    """A module and its loss on a batch."""

    module: nn.Module

    @abstractmethod
    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the optimizer's groups; the ``scale`` of a group multiplies its learning rate."""

    @abstractmethod
    def prepare_batch(self, images: Tensor, labels: Tensor | None, generator: Generator) -> Any:
        """Make the input of :meth:`loss`, without gradient and in full precision."""

    @abstractmethod
    def loss(self, batch: Any) -> TaskOutput:
        """Compute the loss and the metrics of a prepared batch."""

    def train_mode(self) -> None:
        """Set the modules that train to training mode."""
        self.module.train()

    def identity(self) -> dict[str, Any]:
        """Return options, beside those of the module, that a resumed run must share."""
        return {}

    def on_epoch(self) -> tuple[dict[str, float], list[Finding]]:
        """Measure the module at the end of an epoch; return metrics and failures."""
        return {}, []

    def after_step(self) -> None:  # noqa: B027 - most objectives need nothing
        """Update state that follows the weights, such as a momentum copy."""


class TaskObjective(Objective):
    """A pretext task, which makes its own targets.

    Args:
        task: The pretext task.
        augment: Augmentation before the task's views, if any.
        monitor_batch_size: Images on which the features are measured after each epoch.
    """

    def __init__(self, task: PretextTask[Any, Any], augment: Augmentation | None, monitor_batch_size: int) -> None:
        self.module: PretextTask[Any, Any] = task
        self.augment, self.monitor_batch_size = augment, monitor_batch_size
        self.collapsed = False

    def parameter_groups(self) -> list[dict[str, Any]]:
        return parameter_groups(self.module)

    def prepare_batch(self, images: Tensor, labels: Tensor | None, generator: Generator) -> Any:
        self.latest = images
        return self.module.views(images if self.augment is None else self.augment(images, generator), generator)

    def loss(self, batch: Any) -> TaskOutput:
        output: TaskOutput = self.module(batch)
        return output

    def identity(self) -> dict[str, Any]:
        return {"augment": None if self.augment is None else getattr(self.augment, "__qualname__", repr(self.augment))}

    def after_step(self) -> None:
        self.module.after_step()

    def on_epoch(self) -> tuple[dict[str, float], list[Finding]]:
        """Measure the features of the last batch; report a collapse once."""
        images = self.latest[: self.monitor_batch_size]
        features, quality = feature_quality(self.module.backbone, images)
        found: list[Finding] = []
        if not self.collapsed and batch_norm_warmed_up(self.module.backbone):
            found = detect_collapse(images, features, quality["spread"], quality["rankme"])
            self.collapsed = bool(found)
        return quality, found


class ClassifierObjective(Objective):
    """A classifier whose head trains, with some modules of its backbone.

    Args:
        classifier: Module with a ``backbone`` and a ``head``.
        trained: Modules of the backbone that train.
        augment: Augmentation of the images, if any.
        classes: Number of classes.
        layer_decay: Factor on the learning rate for each layer further from the head.
        class_weights: Weight of each class in the loss; equal weights by default.
    """

    def __init__(
        self,
        classifier: nn.Module,
        trained: Sequence[nn.Module],
        augment: Augmentation | None,
        classes: int,
        layer_decay: float,
        class_weights: Tensor | None = None,
    ) -> None:
        self.module: Any = classifier
        self.class_weights = class_weights
        self.trained, self.augment, self.classes, self.layer_decay = trained, augment, classes, layer_decay
        self.module.backbone.requires_grad_(False)
        for module in trained:
            module.requires_grad_(True)

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

    def prepare_batch(self, images: Tensor, labels: Tensor | None, generator: Generator) -> Any:
        assert labels is not None
        return images if self.augment is None else self.augment(images, generator), labels

    def loss(self, batch: Any) -> TaskOutput:
        images, labels = batch
        return _cross_entropy(self.module(images), labels, self.classes, self.class_weights)


class HeadObjective(Objective):
    """A head on precomputed features.

    Args:
        head: From features ``b d`` to logits ``b k``.
        classes: Number of classes.
        class_weights: Weight of each class in the loss; equal weights by default.
    """

    def __init__(self, head: nn.Module, classes: int, class_weights: Tensor | None = None) -> None:
        self.module, self.classes, self.class_weights = head, classes, class_weights

    def parameter_groups(self) -> list[dict[str, Any]]:
        return parameter_groups(self.module)

    def prepare_batch(self, images: Tensor, labels: Tensor | None, generator: Generator) -> Any:
        return images, labels

    def loss(self, batch: Any) -> TaskOutput:
        features, labels = batch
        return _cross_entropy(self.module(features), labels, self.classes, self.class_weights)


def _cross_entropy(outputs: Tensor, labels: Tensor, classes: int, class_weights: Tensor | None) -> TaskOutput:
    logits = outputs.float()
    if logits.shape[1] < classes:
        raise DataError(
            f"at most {logits.shape[1]} classes, because the head has {logits.shape[1]} outputs",
            got=f"{classes} classes",
            fix="Give the head one output for each class.",
        )
    if class_weights is None:
        loss = nn.functional.cross_entropy(logits, labels)
    else:  # a mean over images, equal for any division of the batch; torch divides by the weights of the batch
        losses = nn.functional.cross_entropy(logits, labels, reduction="none")
        loss = (losses * class_weights.to(losses.device)[labels]).mean()
    return TaskOutput(loss, {"accuracy": (logits.detach().argmax(1) == labels).float().mean()})


def _layers(backbone: nn.Module) -> list[nn.Module]:
    """List the layers of a backbone from input to output: the children of the first module that branches."""
    children = [child for child in backbone.children() if next(child.parameters(), None) is not None]
    direct = next(backbone.parameters(recurse=False), None) is not None
    if direct or not children:
        return [backbone]
    return _layers(children[0]) if len(children) == 1 else children
