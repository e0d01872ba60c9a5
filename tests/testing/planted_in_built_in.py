"""Bugs planted in tasks of pretextkit itself: those that hide, shuffle or reconstruct."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from pretextkit import Backbone, SpatialBackbone
from pretextkit.batches import ImageToImage, Masked, Tiles
from pretextkit.tasks import Autoencoder, ContextEncoder, Jigsaw

from .planted import planted


class NarrowAutoencoder(Autoencoder):
    """The autoencoder with a bottleneck of two channels."""

    def __init__(self, backbone: SpatialBackbone) -> None:
        super().__init__(backbone, bottleneck=2)


@planted("the hole is not filled", caught_by="hidden_pixels_change_no_prediction")
class HoleNotFilled(ContextEncoder):
    def views(self, images: Tensor, generator: Generator) -> Masked:
        return super().views(images, generator)._replace(visible=images)


@planted("the hole has the mean colour of the hidden pixels", caught_by="hidden_pixels_change_no_prediction")
class HoleTellsItsColour(ContextEncoder):
    def views(self, images: Tensor, generator: Generator) -> Masked:
        batch = super().views(images, generator)
        mean = (images * batch.mask).sum((2, 3), keepdim=True) / batch.mask.sum((2, 3), keepdim=True)
        return batch._replace(visible=torch.where(batch.mask, mean, images))


@planted("one hole serves the whole batch", caught_by="views_draw_for_each_image")
class SharedHole(ContextEncoder):
    def views(self, images: Tensor, generator: Generator) -> Masked:
        mask = super().views(images[:1], generator).mask.expand(len(images), -1, -1, -1)
        return Masked(images.masked_fill(mask, 0.5), mask, images)


@planted("the target is another image of the batch", caught_by="prefers_its_own_targets")
class OtherImagesTarget(NarrowAutoencoder):
    def views(self, images: Tensor, generator: Generator) -> ImageToImage:
        return ImageToImage(images, images[torch.randperm(len(images), generator=generator)])


@planted("labels are shuffled against the tiles", caught_by="prefers_its_own_targets")
class LabelsOfOthers(Jigsaw):
    def views(self, images: Tensor, generator: Generator) -> Tiles:
        batch = super().views(images, generator)
        return batch._replace(permutation=batch.permutation.roll(1))


@planted("the tiles lie as they were, whatever the label says", caught_by="learns_on_unseen_images")
class NeverShuffled(Jigsaw):
    def __init__(self, backbone: Backbone) -> None:
        super().__init__(backbone)
        self.orders[:] = torch.arange(9)
