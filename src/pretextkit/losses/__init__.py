"""Losses and embedding metrics, as pure functions."""

from pretextkit.losses._adversarial import discriminator_loss, generator_loss
from pretextkit.losses._barlow_twins import barlow_twins_loss
from pretextkit.losses._cosine import negative_cosine_similarity
from pretextkit.losses._dino import dino_loss
from pretextkit.losses._info_nce import info_nce_loss
from pretextkit.losses._nt_xent import nt_xent_loss
from pretextkit.losses._reconstruction import masked_mse, weighted_mse
from pretextkit.losses._sigreg import sigreg_loss
from pretextkit.losses._swav import sinkhorn, swav_loss
from pretextkit.losses._vicreg import vicreg_loss
from pretextkit.losses._visreg import visreg_loss
from pretextkit.metrics import alignment, feature_spread, psnr, rankme, uniformity

__all__ = [
    "alignment",
    "barlow_twins_loss",
    "dino_loss",
    "discriminator_loss",
    "feature_spread",
    "generator_loss",
    "info_nce_loss",
    "masked_mse",
    "negative_cosine_similarity",
    "nt_xent_loss",
    "psnr",
    "rankme",
    "sigreg_loss",
    "sinkhorn",
    "swav_loss",
    "uniformity",
    "vicreg_loss",
    "visreg_loss",
    "weighted_mse",
]
