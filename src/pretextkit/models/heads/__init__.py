"""Built-in heads."""

from pretextkit.models.heads._decoder import ConvDecoder
from pretextkit.models.heads._discriminator import PatchDiscriminator
from pretextkit.models.heads._linear import LinearHead
from pretextkit.models.heads._mlp import MLPHead

__all__ = ["ConvDecoder", "LinearHead", "MLPHead", "PatchDiscriminator"]
