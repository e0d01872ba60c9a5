"""Losses and embedding metrics, as pure functions."""

from pretextkit.losses._adversarial import discriminator_loss, generator_loss
from pretextkit.losses._nt_xent import nt_xent_loss
from pretextkit.losses._reconstruction import weighted_mse
from pretextkit.metrics import alignment, feature_spread, psnr, rankme, uniformity

__all__ = [
    "alignment",
    "discriminator_loss",
    "feature_spread",
    "generator_loss",
    "nt_xent_loss",
    "psnr",
    "rankme",
    "uniformity",
    "weighted_mse",
]
