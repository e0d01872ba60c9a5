"""ResNet18: torchvision's ResNet-18 as a backbone."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from pretextkit.contracts import SpatialBackbone
from pretextkit.errors import OptionError, TrainingWarning, warn
from pretextkit.registries import register_backbone

__all__ = ["ResNet18"]

Stem = Literal["small", "imagenet"]

LARGE = 112
"""Side in pixels from which images are large: the small stem then computes maps as large as the images."""


@register_backbone("resnet18")
class ResNet18(SpatialBackbone):
    """torchvision's ResNet-18 trunk, 11.2 M parameters, 512 features (He et al. 2016, arXiv 1512.03385).

    The ``"small"`` stem, a 3x3 convolution without max-pooling, reduces a 32x32 image to a 4x4 map (Chen et al. 2020,
    arXiv 2002.05709, appendix B.9). The ``"imagenet"`` stem is eight times cheaper and reduces it to a 1x1 map.

    Exchange weights with ``torchvision.models.resnet18`` through :attr:`trunk`, which is that model without its
    classifier::

        torchvision_model.load_state_dict(backbone.trunk.state_dict(), strict=False)  # keeps "fc"
        backbone.trunk.load_state_dict(torchvision_model.state_dict(), strict=False)  # ignores "fc"

    These lines require the ``"imagenet"`` stem and three channels. In other cases, first copy the first convolution to
    the torchvision model, ``torchvision_model.conv1 = copy.deepcopy(backbone.trunk.conv1)``. For the ``"small"`` stem,
    also set ``torchvision_model.maxpool = nn.Identity()``.

    For ImageNet weights of torchvision, use the ``"imagenet"`` stem and set the normalization of their training::

        backbone.normalization.set(torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225]))

    Args:
        stem: ``"small"`` for images up to about 96x96, ``"imagenet"`` for larger ones. None is ``"small"``, with a
            warning at the first images of 112 pixels or more; an explicit stem never warns.
        in_channels: Channels of the images. A network of 1 or 3 channels also takes images of the other kind.

    Raises:
        OptionError: ``stem`` is neither ``"small"`` nor ``"imagenet"``.

    Example:
        >>> backbone = ResNet18()
        >>> [tuple(stage.shape[1:]) for stage in backbone.stages(torch.rand(2, 3, 32, 32))]
        [(64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4)]
        >>> [tuple(stage.shape[1:]) for stage in ResNet18(stem="imagenet").stages(torch.rand(2, 3, 32, 32))]
        [(64, 8, 8), (128, 4, 4), (256, 2, 2), (512, 1, 1)]
    """

    feature_dim = 512

    def __init__(self, *, stem: Stem | None = None, in_channels: int = 3) -> None:
        super().__init__(in_channels=in_channels)
        if stem not in ("small", "imagenet", None):
            raise OptionError(
                "stem to be 'small', 'imagenet' or None",
                got=repr(stem),
                fix="Use 'small' for images up to about 96x96 pixels, 'imagenet' for larger ones.",
            )
        from torchvision.models import resnet18  # imported here because the import takes seconds

        self.trunk = resnet18(weights=None)
        self.trunk.fc = nn.Identity()
        self._stem_is_chosen = stem is not None
        if stem != "imagenet":
            self.trunk.conv1 = nn.Conv2d(in_channels, 64, 3, 1, 1, bias=False)
            self.trunk.maxpool = nn.Identity()
        else:
            self.trunk.conv1 = nn.Conv2d(in_channels, 64, 7, 2, 3, bias=False)
        nn.init.kaiming_normal_(self.trunk.conv1.weight, mode="fan_out", nonlinearity="relu")  # as in torchvision

    def stages(self, images: Tensor) -> tuple[Tensor, ...]:
        self._warn_of_large_images(images)
        trunk = self.trunk
        features = trunk.maxpool(trunk.relu(trunk.bn1(trunk.conv1(self.normalization(images)))))
        maps = []
        for layer in (trunk.layer1, trunk.layer2, trunk.layer3, trunk.layer4):
            features = layer(features)
            maps.append(features)
        return tuple(maps)

    def _warn_of_large_images(self, images: Tensor) -> None:
        """Warn once if nobody chose the stem, and it does not suit the images."""
        if self._stem_is_chosen or images.ndim != 4 or min(images.shape[2:]) < LARGE:
            return
        self._stem_is_chosen = True
        height, width = images.shape[2:]
        warn(
            f"ResNet18 computes on images of {height}x{width} pixels with its default stem for small images, which is "
            'many times slower than the other. Build ResNet18(stem="imagenet"), or ResNet18(stem="small") to keep it.',
            TrainingWarning,
            see="a-resnet-for-small-images",
        )
