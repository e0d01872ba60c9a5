"""Losses, and measures of the embeddings they shape, as pure functions."""

from pretextkit.losses.nt_xent import alignment, feature_spread, nt_xent_loss, uniformity
from pretextkit.losses.reconstruction import psnr, weighted_mse

__all__ = ["alignment", "feature_spread", "nt_xent_loss", "psnr", "uniformity", "weighted_mse"]
