"""Built-in backbones."""

from pretextkit.models.backbones.resnet18 import ResNet18
from pretextkit.models.backbones.small_cnn import SmallCNN

__all__ = ["ResNet18", "SmallCNN"]
