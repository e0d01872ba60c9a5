"""A classifier of images, and features in the place of images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor, nn

from pretextkit.data._collate import ImageBatch
from pretextkit.data._sources import ImageSource

__all__ = ["Classifier", "FeatureRows"]


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


class FeatureRows(ImageSource):
    """Features in the place of images."""

    def __init__(self, features: Tensor, labels: Tensor) -> None:
        self.features, self.labels = features, labels

    def __len__(self) -> int:
        return len(self.features)

    def batches(self, order: Sequence[Tensor]) -> Iterator[ImageBatch]:
        for rows in order:
            yield ImageBatch(self.features[rows], self.labels[rows])
