"""Built-in networks: backbones and heads."""

from pretextkit.models.backbones import ResNet18, SmallCNN
from pretextkit.models.heads import ConvDecoder, LinearHead, MLPHead, PatchDiscriminator

__all__ = ["ConvDecoder", "LinearHead", "MLPHead", "PatchDiscriminator", "ResNet18", "SmallCNN"]
