"""Losses, and measures of the embeddings they shape, as pure functions."""

from pretextkit.losses.adversarial import critic_loss, fooling_loss
from pretextkit.losses.nt_xent import nt_xent_loss
from pretextkit.losses.quality import alignment, feature_spread, rankme, uniformity
from pretextkit.losses.reconstruction import psnr, weighted_mse

__all__ = [
    "alignment",
    "critic_loss",
    "feature_spread",
    "fooling_loss",
    "nt_xent_loss",
    "psnr",
    "rankme",
    "uniformity",
    "weighted_mse",
]
