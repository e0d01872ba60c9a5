"""A classifier of images, and features in the place of images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from pretextkit._modules import as_input
from pretextkit._validation import check_features
from pretextkit.data._collate import ImageBatch
from pretextkit.data._sources import ImageSource

__all__ = ["Classifier", "FeatureRows", "only_classes"]


def only_classes(logits: Tensor, classes: Tensor) -> Tensor:
    """Set the logits of all other classes to -inf, so that they have no probability.

    Args:
        logits: ``b k``.
        classes: Labels that stay.

    Returns:
        ``b k``.

    Example:
        >>> only_classes(torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([0, 1]))
        tensor([[1., 2., -inf]])
    """
    absent = torch.ones(logits.shape[1], dtype=torch.bool, device=logits.device)
    absent[classes.to(logits.device)] = False
    return logits.masked_fill(absent, float("-inf"))


class Classifier(nn.Module):
    """Classifier made of a backbone and a head, from images ``b c h w`` to logits ``b k``.

    Args:
        backbone: Module from images to features.
        head: Module from features ``b d`` to logits ``b k``.
        classes: Labels with training images; the logits of other classes are -inf. By default all logits are kept.

    Example:
        >>> from pretextkit.models import LinearHead, SmallCNN
        >>> Classifier(SmallCNN(), LinearHead(256, 10))(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """

    classes: Tensor | None

    def __init__(self, backbone: nn.Module, head: nn.Module, classes: Tensor | None = None) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head
        self.register_buffer("classes", classes, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(images))
        return logits if self.classes is None else only_classes(logits, self.classes)

    def features(self, images: Tensor) -> Tensor:
        """Map ``b c h w`` to the features ``b d`` that the head gets: maps and tokens are averaged, as in the probes.

        Raises:
            ShapeError: The backbone returns something other than features, tokens or maps of the images.
            DataError: The features are complex.
        """
        output = self.backbone(as_input(images, self.backbone))
        return as_input(check_features(output, len(images), "the backbone", finite=False), self.head)


class FeatureRows(ImageSource):
    """Features in the place of images."""

    def __init__(self, features: Tensor, labels: Tensor) -> None:
        self.features, self.labels = features, labels

    def __len__(self) -> int:
        return len(self.features)

    def batches(self, order: Sequence[Tensor]) -> Iterator[ImageBatch]:
        for rows in order:
            yield ImageBatch(self.features[rows], self.labels[rows])
