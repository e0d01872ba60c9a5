"""Built-in networks: backbones and heads."""

from pretextkit.models.backbones import ResNet18, SmallCNN
from pretextkit.models.heads import ConvCritic, ConvDecoder, LinearHead, MLPHead

__all__ = ["ConvCritic", "ConvDecoder", "LinearHead", "MLPHead", "ResNet18", "SmallCNN"]
