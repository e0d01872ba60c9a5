"""Built-in networks, backbones and heads, and networks of other libraries as backbones."""

from pretextkit.models import _libraries as _libraries  # adds the names of torchvision and timm
from pretextkit.models._timm_tokens import TimmTokens
from pretextkit.models._wrap import WrappedBackbone, wrap
from pretextkit.models.backbones import ResNet18, SmallCNN, ViTTiny
from pretextkit.models.heads import ConvDecoder, LinearHead, MLPHead, PatchDiscriminator

__all__ = [
    "ConvDecoder",
    "LinearHead",
    "MLPHead",
    "PatchDiscriminator",
    "ResNet18",
    "SmallCNN",
    "TimmTokens",
    "ViTTiny",
    "WrappedBackbone",
    "wrap",
]
