"""Losses, and measures of the embeddings they shape, as pure functions."""

from pretextkit.losses.nt_xent import alignment, feature_spread, nt_xent_loss, uniformity

__all__ = ["alignment", "feature_spread", "nt_xent_loss", "uniformity"]
