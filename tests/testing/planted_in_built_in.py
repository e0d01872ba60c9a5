"""Bugs planted in built-in tasks that hide, shuffle, color or reconstruct."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from pretextkit import Backbone, SpatialBackbone, TaskOutput
from pretextkit.batches import ImageToImage, Masked, Tiles
from pretextkit.losses import weighted_mse
from pretextkit.tasks import Autoencoder, Colorization, ContextEncoder, Denoising, GaussianNoise, Jigsaw, PatchLayout

from .planted import planted


class NarrowAutoencoder(Autoencoder):
    """Autoencoder with a bottleneck of two channels."""

    def __init__(self, backbone: SpatialBackbone) -> None:
        super().__init__(backbone, bottleneck=2)


@planted("the hole is not filled", caught_by="hidden_pixels_change_no_prediction")
class HoleNotFilled(ContextEncoder):
    def views(self, images: Tensor, generator: Generator) -> Masked:
        return super().views(images, generator)._replace(visible=images)


@planted("the hole has the mean color of the hidden pixels", caught_by="hidden_pixels_change_no_prediction")
class HoleShowsMeanColor(ContextEncoder):
    def views(self, images: Tensor, generator: Generator) -> Masked:
        batch = super().views(images, generator)
        mean = (images * batch.mask).sum((2, 3), keepdim=True) / batch.mask.sum((2, 3), keepdim=True)
        return batch._replace(visible=torch.where(batch.mask, mean, images))


@planted("the loss counts the visible pixels instead of the hole", caught_by="loss_counts_hole_and_border_only")
class VisiblePixelsScored(ContextEncoder):
    def forward(self, batch: Masked) -> TaskOutput:
        return super().forward(batch._replace(mask=~batch.mask))


@planted("all images of a batch share one hole", caught_by="views_draw_for_each_image")
class SharedHole(ContextEncoder):
    def views(self, images: Tensor, generator: Generator) -> Masked:
        mask = super().views(images[:1], generator).mask.expand(len(images), -1, -1, -1)
        return Masked(images.masked_fill(mask, 0.5), mask, images)


@planted("the target is the corrupted image", caught_by="target_is_the_image")
class TargetIsCorrupted(Denoising):
    def views(self, images: Tensor, generator: Generator) -> Masked:
        batch = super().views(images, generator)
        return batch._replace(target=batch.visible)


@planted("the backbone sees the clean image", caught_by="hidden_pixels_change_no_prediction")
class NothingIsCorrupted(Denoising):
    def views(self, images: Tensor, generator: Generator) -> Masked:
        return super().views(images, generator)._replace(visible=images)


@planted("the loss counts only pixels that are not corrupted", caught_by="loss_counts_every_pixel")
class CleanPixelsScored(Denoising):
    def forward(self, batch: Masked) -> TaskOutput:
        return TaskOutput(weighted_mse(self.reconstruct(batch.visible), batch.target, ~batch.mask), {})


@planted("all images of a batch share one noise", caught_by="views_draw_for_each_image")
class SharedNoise(Denoising):
    def views(self, images: Tensor, generator: Generator) -> Masked:
        noise = GaussianNoise()(torch.full_like(images[:1], 0.5), generator).visible - 0.5
        return Masked((images + noise).clamp(0, 1), torch.ones_like(images[:, :1], dtype=torch.bool), images)


@planted("the bottleneck is skipped", caught_by="code_has_the_rank_of_the_bottleneck")
class BottleneckSkipped(NarrowAutoencoder):
    def __init__(self, backbone: SpatialBackbone) -> None:
        super().__init__(backbone)
        self.head.layers = self.head.layers[2:]


@planted("the reconstruction sees the pixels as well as the code", caught_by="reconstruction_depends_on_code_only")
class PixelsPassBy(NarrowAutoencoder):
    def reconstruct(self, images: Tensor) -> Tensor:
        return (super().reconstruct(images) + images) / 2


@planted("the target is another image of the batch", caught_by="loss_depends_on_targets")
class OtherImagesTarget(NarrowAutoencoder):
    def views(self, images: Tensor, generator: Generator) -> ImageToImage:
        return ImageToImage(images, images[torch.randperm(len(images), generator=generator)])


@planted("labels are off by one", caught_by="tiles_match_their_permutation")
class LabelsOffByOne(Jigsaw):
    def views(self, images: Tensor, generator: Generator) -> Tiles:
        batch = super().views(images, generator)
        return batch._replace(permutation=(batch.permutation + 1) % len(self.orders))


@planted("labels are shuffled against the tiles", caught_by="loss_depends_on_targets")
class LabelsOfOthers(Jigsaw):
    def views(self, images: Tensor, generator: Generator) -> Tiles:
        batch = super().views(images, generator)
        return batch._replace(permutation=batch.permutation.roll(1))


@planted("half of the permutations are duplicates", caught_by="permutations_are_distinct")
class OrdersComeTwice(Jigsaw):
    def __init__(self, backbone: Backbone) -> None:
        super().__init__(backbone)
        self.orders[1::2] = self.orders[::2]


@planted("the tiles are never shuffled", caught_by="learns_on_unseen_images")
class NeverShuffled(Jigsaw):
    def __init__(self, backbone: Backbone) -> None:
        super().__init__(backbone)
        self.orders[:] = torch.arange(9)


@planted("tiles touch: lines continue from one tile to the next", caught_by="tiles_do_not_touch")
class TilesTouch(Jigsaw):
    def __init__(self, backbone: Backbone) -> None:
        super().__init__(backbone, layout=PatchLayout(patch=10, gap=0, jitter=0))


@planted("the backbone sees the colors", caught_by="colors_change_no_prediction")
class ColorsAreShown(Colorization):
    def views(self, images: Tensor, generator: Generator) -> ImageToImage:
        return super().views(images, generator)._replace(input=images)


@planted("the target is the gray image", caught_by="target_is_the_image")
class GrayIsTheTarget(Colorization):
    def views(self, images: Tensor, generator: Generator) -> ImageToImage:
        batch = super().views(images, generator)
        return batch._replace(target=batch.input.expand_as(images))


@planted("the target colors are from another image", caught_by="loss_depends_on_targets")
class OtherImagesColors(Colorization):
    def views(self, images: Tensor, generator: Generator) -> ImageToImage:
        return super().views(images, generator)._replace(target=images.roll(1, 0))


@planted("red and blue of the target are swapped", caught_by="color_loss_equals_a_loop")
class RedForBlue(Colorization):
    def forward(self, batch: ImageToImage) -> TaskOutput:
        return super().forward(batch._replace(target=batch.target.flip(1)))


@planted("the loss is divided by the mean color of the batch", caught_by="color_loss_equals_a_loop")
class DividedByColor(Colorization):
    def forward(self, batch: ImageToImage) -> TaskOutput:
        output = super().forward(batch)
        return output._replace(loss=output.loss / output.metrics["color_error_of_gray"])
