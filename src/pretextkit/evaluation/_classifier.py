"""A classifier of images, and how it or its head alone trains."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import Generator, Tensor, nn

from pretextkit.contracts import TaskOutput
from pretextkit.data._collate import ImageBatch
from pretextkit.data._sources import ImageSource
from pretextkit.errors import DataError
from pretextkit.training._objectives import Objective
from pretextkit.training._optim import parameter_groups

__all__ = ["Augmentation", "Classifier", "ClassifierObjective", "FeatureRows", "HeadObjective"]

Augmentation = Callable[[Tensor, Generator], Tensor]
"""From images ``b c h w`` and a generator to augmented images."""


class Classifier(nn.Module):
    """Classifier made of a backbone and a head, from images ``b c h w`` to logits ``b k``.

    Example:
        >>> from pretextkit.models import LinearHead, SmallCNN
        >>> Classifier(SmallCNN(), LinearHead(256, 10))(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """

    def __init__(self, backbone: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.backbone(images))
        return logits


class ClassifierObjective(Objective):
    """A head, and those modules of the backbone that train with it."""

    def __init__(
        self,
        classifier: Classifier,
        trained: Sequence[nn.Module],
        augment: Augmentation | None,
        classes: int,
        layer_decay: float,
    ) -> None:
        self.module: Classifier = classifier
        self.trained, self.augment, self.classes, self.layer_decay = trained, augment, classes, layer_decay
        classifier.backbone.requires_grad_(False)
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

    def prepare(self, images: Tensor, labels: Tensor | None, generator: Generator) -> Any:
        assert labels is not None
        return images if self.augment is None else self.augment(images, generator), labels

    def score(self, batch: Any) -> TaskOutput:
        images, labels = batch
        return _cross_entropy(self.module(images), labels, self.classes)


class HeadObjective(Objective):
    """A head on features that are there already."""

    def __init__(self, head: nn.Module, classes: int) -> None:
        self.module, self.classes = head, classes

    def parameter_groups(self) -> list[dict[str, Any]]:
        return parameter_groups(self.module)

    def prepare(self, images: Tensor, labels: Tensor | None, generator: Generator) -> Any:
        return images, labels

    def score(self, batch: Any) -> TaskOutput:
        features, labels = batch
        return _cross_entropy(self.module(features), labels, self.classes)


class FeatureRows(ImageSource):
    """Features in the place of images."""

    def __init__(self, features: Tensor, labels: Tensor) -> None:
        self.features, self.labels = features, labels

    def __len__(self) -> int:
        return len(self.features)

    def batches(self, order: Sequence[Tensor]) -> Iterator[ImageBatch]:
        for rows in order:
            yield ImageBatch(self.features[rows], self.labels[rows])


def _cross_entropy(outputs: Tensor, labels: Tensor, classes: int) -> TaskOutput:
    logits = outputs.float()
    if logits.shape[1] < classes:
        raise DataError(
            f"at most {logits.shape[1]} classes, as the head has so many outputs",
            got=f"{classes} classes",
            fix="Give the head as many outputs as there are classes.",
        )
    loss = nn.functional.cross_entropy(logits, labels)
    return TaskOutput(loss, {"accuracy": (logits.detach().argmax(1) == labels).float().mean()})


def _layers(backbone: nn.Module) -> list[nn.Module]:
    """List the parts of a backbone from its input to its output: the children below which it first branches."""
    children = [child for child in backbone.children() if next(child.parameters(), None) is not None]
    direct = next(backbone.parameters(recurse=False), None) is not None
    if direct or not children:
        return [backbone]
    return _layers(children[0]) if len(children) == 1 else children
