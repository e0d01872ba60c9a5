"""SmallCNN: a convolutional network for small images and few CPU cores."""

from __future__ import annotations

from torch import Tensor, nn

from pretextkit.contracts import SpatialBackbone
from pretextkit.registries import register_backbone

__all__ = ["SmallCNN"]


def _conv(inputs: int, outputs: int, side: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, side, stride, padding=side // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


@register_backbone("small-cnn")
class SmallCNN(SpatialBackbone):
    """A convolutional network with four stages, 0.6 M parameters and 256 features.

    The last map of a 32x32 image is 4x4 and keeps positions; networks for 224x224 images end in a 1x1 map. The first
    convolution halves the image, which makes steps cheaper.

    Args:
        in_channels: Channels of the images. A network of 1 or 3 channels also takes images of the other kind.

    Example:
        >>> backbone = SmallCNN()
        >>> [tuple(stage.shape[1:]) for stage in backbone.stages(torch.rand(2, 3, 32, 32))]
        [(32, 16, 16), (64, 16, 16), (128, 8, 8), (256, 4, 4)]
        >>> backbone(torch.rand(2, 1, 28, 28)).shape
        torch.Size([2, 256])
    """

    feature_dim = 256

    def __init__(self, *, in_channels: int = 3) -> None:
        super().__init__(in_channels=in_channels)
        self.stage1 = _conv(in_channels, 32, stride=2)
        self.stage2 = _conv(32, 64)
        self.stage3 = nn.Sequential(_conv(64, 128, stride=2), _conv(128, 128))
        self.stage4 = nn.Sequential(_conv(128, 256, stride=2), _conv(256, 256, side=1))

    def stages(self, images: Tensor) -> tuple[Tensor, ...]:
        one = self.stage1(self.normalization(images))
        two = self.stage2(one)
        three = self.stage3(two)
        return one, two, three, self.stage4(three)
