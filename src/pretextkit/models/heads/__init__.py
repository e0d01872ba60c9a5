"""Built-in heads."""

from pretextkit.models.heads.critic import ConvCritic
from pretextkit.models.heads.decoder import ConvDecoder
from pretextkit.models.heads.linear import LinearHead
from pretextkit.models.heads.mlp import MLPHead

__all__ = ["ConvCritic", "ConvDecoder", "LinearHead", "MLPHead"]
