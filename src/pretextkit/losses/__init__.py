"""Losses, and measures of the embeddings they shape, as pure functions."""

from pretextkit.losses.nt_xent import nt_xent_loss
from pretextkit.losses.quality import alignment, feature_spread, rankme, uniformity
from pretextkit.losses.reconstruction import psnr, weighted_mse

__all__ = ["alignment", "feature_spread", "nt_xent_loss", "psnr", "rankme", "uniformity", "weighted_mse"]
