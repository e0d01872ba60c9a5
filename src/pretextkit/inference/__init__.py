"""Use a trained backbone or classifier: predict, save and load."""

from pretextkit.inference._classifier import Classifier
from pretextkit.inference._predictions import Predictions
from pretextkit.inference._saving import load_backbone, load_classifier, save_backbone

__all__ = ["Classifier", "Predictions", "load_backbone", "load_classifier", "save_backbone"]
