"""Built-in backbones."""

from pretextkit.models.backbones._resnet18 import ResNet18
from pretextkit.models.backbones._small_cnn import SmallCNN
from pretextkit.models.backbones._vit_tiny import ViTTiny

__all__ = ["ResNet18", "SmallCNN", "ViTTiny"]
