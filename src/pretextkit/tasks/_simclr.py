"""SimCLR: contrast two random views of each image with all other images of the batch."""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn

from pretextkit._chunks import row_chunks
from pretextkit._validation import check_float, check_int
from pretextkit.batches import TwoViews
from pretextkit.contracts import BackboneT, PretextTask, Recommended, TaskOutput
from pretextkit.losses import alignment, nt_xent_loss, uniformity
from pretextkit.models.heads import MLPHead
from pretextkit.registries import register_pretext_task
from pretextkit.views import color_jitter, random_grayscale, random_horizontal_flip, random_resized_crop

__all__ = ["SimCLR"]


@register_pretext_task("simclr")
class SimCLR(PretextTask[TwoViews, BackboneT]):
    """Attract the features of two random views of an image and repel the features of other images.

    Features that are invariant to cropping and recoloring describe the content of an image (Chen et al. 2020,
    arXiv 2002.05709). The defaults suit images of 28 to 96 pixels: crops of at least 20 % of the area, color jitter of
    half the ImageNet strength, and no blur, as in the paper's CIFAR-10 experiments (appendix B.9).

    Metrics: ``top1``, the fraction of views whose nearest view shows the same image; ``alignment`` and ``uniformity``
    of the projections.

    Args:
        backbone: Backbone to train.
        projection_dim: Width of the projections in the loss.
        temperature: Temperature of the NT-Xent loss.
        crop_scale: Smallest and largest area of a crop, as fractions of the image.
        flip: Probability of a horizontal flip; use 0 for digits and letters.
        jitter: Strength of the color jitter, relative to the paper's on ImageNet.
        grayscale: Probability of conversion to grayscale.

    Raises:
        OptionError: A number is out of range.

    Example:
        >>> from pretextkit.models import SmallCNN
        >>> task = SimCLR(SmallCNN())
        >>> output = task.step(torch.rand(4, 3, 32, 32), torch.Generator().manual_seed(0))
        >>> sorted(output.metrics)
        ['alignment', 'top1', 'uniformity']
    """

    recommended = Recommended(learning_rate=3e-3, smallest_batch=128, largest_batch=512)

    def __init__(
        self,
        backbone: BackboneT,
        *,
        projection_dim: int = 128,
        temperature: float = 0.2,
        crop_scale: tuple[float, float] = (0.2, 1.0),
        flip: float = 0.5,
        jitter: float = 0.5,
        grayscale: float = 0.2,
    ) -> None:
        super().__init__(backbone)
        projection_dim = check_int("projection_dim", projection_dim, of=SimCLR)
        self.head = MLPHead(backbone.feature_dim, projection_dim)
        self.temperature = check_float("temperature", temperature, "(0, inf)", of=SimCLR)
        self.crop_scale = crop_scale
        self.flip = check_float("flip", flip, "[0, 1]", fix="0 is never, 1 is always.")
        self.jitter = check_float("jitter", jitter, "[0, 2.5]", fix="0 leaves colors alone.")
        self.grayscale = check_float("grayscale", grayscale, "[0, 1]", fix="0 is never, 1 is always.")

    def views(self, images: Tensor, generator: Generator) -> TwoViews:
        """Make two views ``b c h w`` of each image ``b c h w``."""
        return TwoViews(self._view(images, generator), self._view(images, generator))

    def _view(self, images: Tensor, generator: Generator) -> Tensor:
        view = random_resized_crop(images, scale=self.crop_scale, generator=generator)
        view = random_horizontal_flip(view, self.flip, generator=generator)
        strength = 0.8 * self.jitter
        view = color_jitter(
            view,
            brightness=strength,
            contrast=strength,
            saturation=strength,
            hue=0.2 * self.jitter,
            generator=generator,
        )
        return random_grayscale(view, self.grayscale, generator=generator)

    def forward(self, batch: TwoViews) -> TaskOutput:
        z_a, z_b = self.head(self.backbone(torch.cat(batch))).float().chunk(2)
        loss = nt_xent_loss(z_a, z_b, temperature=self.temperature)
        return TaskOutput(
            loss,
            {
                "top1": _top1(z_a.detach(), z_b.detach()),
                "alignment": alignment(z_a, z_b),
                "uniformity": uniformity(z_a),
            },
        )


@torch.no_grad()
def _top1(z_a: Tensor, z_b: Tensor) -> Tensor:
    """Compute the fraction of rows of ``z_a`` whose most similar row of both views is their partner in ``z_b``."""
    a, b = nn.functional.normalize(z_a), nn.functional.normalize(z_b)
    to_partner = (a * b).sum(1)
    correct = a.new_zeros(())
    for chunk in row_chunks(len(a), 2 * len(a), a.device):
        with torch.autocast(a.device.type, enabled=False):  # half precision makes ties of similar neighbors
            to_others = torch.cat([a[chunk] @ a.T, a[chunk] @ b.T], 1)
        rows = torch.arange(len(chunk), device=a.device)
        to_others[rows, chunk] = -torch.inf
        to_others[rows, chunk + len(a)] = -torch.inf
        correct += (to_partner[chunk] > to_others.amax(1)).sum()
    return correct / len(a)
